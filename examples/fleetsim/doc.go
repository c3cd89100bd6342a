// Package fleetsim is a fleet in one process: agents that have everything that
// a real one has with etcd, which is a lease, a registration, a status and a
// follower of the plan, and a simulated host, whose download, start and
// probation are short timers that fail, crash and die as they are told. It is
// for the tests of rollouts under faults, and for figures of 10,000 agents.
//
// The etcd, the follower, the controller and the index of agents are the real
// ones. A Ledger keeps the truth, which is who is down at any moment whatever
// anybody in the fleet believes, and a Chronicle reads back from etcd's own
// history what was written.
package fleetsim
