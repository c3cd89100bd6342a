// Package rollout brings a release, or a configuration document, to a fleet in
// stages that are judged, and that halt and go back by themselves.
//
// A Plan is one key in etcd. It names what is to run, whom, in which order, and
// the admission mark. Each agent has a Rank, a number from a hash of the
// rollout's id and its own, and starts when the mark reaches it: so any number
// of agents is let in by moving one number, with one write. Admits is that rule,
// and both sides use it: the agents, through a Follower, to know whether they may
// start, and the Controller, to know who is under way.
//
// # Guarantees
//
//   - No more agents are under way at once than the plan allows, however late
//     they hear of it, whoever leads, and whoever was away meanwhile: an agent that
//     may start without being asked about is one that the controller has counted.
//   - A plan is written only by whoever holds the election's key, or by an operator,
//     and only on top of the plan that was read.
//   - Each write of a plan has its record in the history, in the same transaction.
//
// # Not guaranteed
//
//   - With Plan.PastSilent, agents that are silent for a whole deadline and take all
//     places have one more go back beside them at a time; see docs/rollouts.md.
//   - An agent that stands still, as a suspended machine does, after it has found that
//     it may start, and before it does, may start once it goes on, however late.
package rollout
