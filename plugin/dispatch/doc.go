// Package dispatch gives plugins work: a durable queue of tasks in etcd, which
// a dispatcher assigns to agents and agents run on their plugins.
//
//   - A Queue submits, shows, cancels and retries tasks. Anybody may have one.
//   - A Dispatcher assigns them. Every agent of a fleet may run one: they elect
//     one among themselves, and the others wait to replace it.
//   - A Worker runs, on one agent, what is assigned to it.
//
// # Guarantees
//
// A task that was submitted is run at least once, unless it is cancelled, its
// deadline passes, or its tries are used up: then it is told as such, never
// lost. A run is acknowledged by its agent in the transaction that writes its
// outcome; a task with an outcome of success is never run again. Who may write
// is fenced in every transaction: a dispatcher by its election, an agent by the
// assignment and by its claim, so that a process that slept, or was cut off,
// changes nothing once it has been replaced.
//
// An agent that dies gives its tasks back once its lease has ended and
// DispatcherConfig.Grace has passed. A hot swap of the agent's process keeps
// lease and assignments: what the process before has begun it finishes while it
// drains, and what it had to leave is taken over by the next one.
//
// The results of a run are written while it runs. A run that is repeated goes
// on from the cursor of the last result that has one, and the results after
// that one, which come again, are deleted.
//
// # What is not guaranteed
//
// A task may be run more than once, also at the same time: an agent that is cut
// off runs on while another one has begun again. Whoever needs once puts an
// idempotency key into the task, which reaches the plugin with every run.
// Tasks of the same priority are assigned in the order of their submission, and
// one assignment in ten goes to the task that was submitted first, but they
// may overtake one another on their way. Deadlines are judged by the clocks of
// the dispatcher and of the agents, which must not be far apart. An etcd that is
// restored from a backup has forgotten what was acknowledged since, and that is
// run again.
//
// # Threats
//
// Whoever may write below tasks/ can have every agent run what its plugins can
// do, as with orders. An agent needs no more than to read and write its own keys
// (see AgentKeys): it then sees its own tasks only, and can at worst lie about
// how they went. What is read is bounded, and refused where it is damaged.
package dispatch
