// Package agent is where to start: an Agent registers itself in etcd, keeps
// a heartbeat, follows its configuration, runs plugins and on them the tasks of
// its fleet, tells its health and replaces its own executable under load. A
// Directory reads what agents have registered and gives orders to them.
//
// # Guarantees
//
//   - The agent is in the registry as long as its lease is renewed, and the
//     lease passes from an executable to its successor: its key does not
//     disappear during an upgrade.
//   - Two live agents cannot have one id: the second fails to start with
//     ErrDuplicate, also where its state directory is a copy of the first's.
//     An agent that crashed has its id back at once in the same directory on
//     the same boot, elsewhere after one and a half heartbeats and 3 s.
//   - Keys of the agent that somebody deletes or changes, or whose lease
//     somebody revokes, are as they were within Config.Spread and a moment.
//   - A process that has been superseded, or slept past its lease, cannot
//     write the agent's keys, nor acknowledge an order: each write is compared
//     with the registration that the process wrote itself.
//   - An agent that etcd has known before starts without etcd, with the
//     configuration that it had last.
//
// # Not guaranteed
//
// An agent that is cut off from etcd for longer than its lease, or, by a copy of
// its state directory, than its heartbeat, can lose its id to another process;
// it ends with ErrDuplicate when it finds out. A virtual machine that is cloned
// while it runs has the same boot id twice, and the agents in it are not told
// apart.
//
// The process id changes with each upgrade: the old process ends with
// ErrSuperseded and its child goes on. systemd is told so. As pid 1, or where
// Config.Supervise asks for it, Run is a supervisor instead, whose pid stays.
//
// The library never calls os.Exit, traps no signals outside of a supervisor
// and writes to no global logger; the host program does, see the example.
package agent
