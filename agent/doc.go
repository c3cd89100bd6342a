// Package agent is where to start: an Agent registers itself in etcd, keeps
// a heartbeat, follows its configuration, runs plugins, tells its health and
// replaces its own executable under load. A Directory reads what agents have
// registered and gives orders to them.
//
// # Guarantees
//
//   - The agent is in the registry as long as its lease is renewed, and the
//     lease passes from an executable to its successor: its key does not
//     disappear during an upgrade.
//   - Two live agents cannot have one id: the second fails to start with
//     ErrDuplicate.
//   - A process that has been superseded, or slept past its lease, cannot
//     write the agent's keys: each write is compared with the registration
//     that the process wrote itself.
//   - An agent that etcd has known before starts without etcd, with the
//     configuration that it had last.
//
// # Not guaranteed
//
// The process id changes with each upgrade: the old process ends with
// ErrSuperseded and its child goes on. systemd is told so. As pid 1, or where
// Config.Supervise asks for it, Run is a supervisor instead, whose pid stays.
//
// The library never calls os.Exit, traps no signals outside of a supervisor
// and writes to no global logger; the host program does, see the example.
package agent
