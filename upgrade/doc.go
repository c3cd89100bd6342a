// Package upgrade replaces the running executable by a signed release under
// load, over inherited sockets, and takes it back when the new one is bad.
//
// An [Upgrader] is one host's side: [Upgrader.Open], [Upgrader.Restore],
// [Upgrader.Listen], [Upgrader.Serving], [Upgrader.Run]. Package release below
// says what a release is, whose signature counts and where releases come
// from. Most programs use both through agent.Agent.
//
// # How an upgrade goes
//
// A release.Pin (version and manifest digest) is asked for. The release is refused
// before any download if the policy, its own requirements or this host's
// quarantine exclude it. Its executable is downloaded, verified and staged
// into a slot of its own, then started by tableflip with the listening
// sockets and one end of a socket pair. It serves on probation while the
// incumbent has stopped accepting but keeps its listeners open. Passed, the
// boot pointer "current" moves, the successor calls Ready and the incumbent
// drains. Failed, the incumbent accepts again at once, on the sockets that it
// never closed, and the release is quarantined. A release that passes and
// then does not start cold is given up after three starts.
//
// A [Request] asks for an upgrade, for a release to be staged, for a rollback to a
// retained release, or for the host to be held. One to go back that comes in a
// probation ends it: the incumbent still has everything. docs/upgrade.md tells the
// whole, with what each crash leaves.
//
// # Guarantees
//
//   - current names a complete, verified slot whose release has passed
//     probation or was installed by hand, whenever power is cut.
//   - Some process holds every listening socket from the first Listen on.
//   - The journal is on disk before the effect that it announces, and the
//     next start finishes or undoes what it finds and says which.
//   - A request is answered by the process that accepted it, unless that
//     process dies: HTTPServer (HTTP/1.1 and HTTP/2) and GRPCServer drain
//     without dropping one. What goes on for longer is told, see Draining,
//     and closed at a deadline.
//
// # Not guaranteed
//
//   - Requests that a successor accepted are lost if it crashes, hangs or is
//     killed. One that is merely unhealthy is told and drains first.
//   - A request over HTTP/2 that crosses the server's GOAWAY is repeated by
//     its client; one whose body cannot be read twice fails there.
//   - What Config.State hands over is a snapshot, taken before the successor
//     starts: what changes in the incumbent's memory after it stays there.
//   - The process id changes with each upgrade, except where a supervisor
//     keeps one: see Supervise. A service manager is told by agent.Agent.
//   - Hot swap needs Unix; elsewhere Run refuses requests with
//     ErrNotSupported.
//
// # Threat model
//
// Whoever controls the repository or the network can withhold releases, no
// more: index and manifest are signed, the sequence of the index never goes
// back on a host, and each binary is checked against the signed digest before
// it is executable. Whoever may ask for upgrades can choose among releases
// that the keys and the policy allow, and within bounds how long a probation lasts
// and what is kept; never other code. Whoever can write to the state directory or
// ptrace the process owns the agent; the directory has mode 0700.
package upgrade
