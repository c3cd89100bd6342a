// Package health answers three questions about a running agent: is the
// process alive, may it be given work, and do its figures look right.
//
// A [Monitor] runs checks on a schedule ([Check]), keeps conditions that the
// program pushes ([Monitor.Set]) and judges figures by rules ([Rule]) that
// work as alerting rules in Prometheus do. All of it is one tree, the
// [Report], which the HTTP handler, the metrics and the agent's status key
// show alike.
//
// # What the answers mean
//
// Live is about the process alone: it depends on checks of kind [Liveness] or
// [Both], and such a check must not touch the network, a disk that may hang
// or another process. A supervisor that restarts an agent because etcd is
// down makes the outage worse. A liveness check that has not run yet counts
// as passed. A [Pulse] has a loop of the program count, so that a deadlock is
// found. Liveness is not judged before startup is over: when every check of
// kind [Startup] has passed once.
//
// Ready is whether work should be sent here: checks of kind [Readiness] or
// [Both] and every pushed condition. One that has not run yet counts as
// failed.
//
// An alert never changes either answer. A rollout weighs it; a load balancer
// does not.
//
// # Guarantees
//
//   - A check that hangs, panics or is slow harms no other check: each runs by
//     itself under a deadline, and one that ignores its deadline is not
//     started a second time while the first call is still inside, so that it
//     holds one goroutine and no more.
//   - Serving a probe costs the same whatever the number of probes: handlers
//     show the last results and run nothing.
//   - A missing answer is a bad answer: a NaN that is observed counts as
//     infinite, and a rule can ask that silence does too ([Rule.Silence]).
//   - What cannot be measured is not made up: the value stays, and the alert as
//     it is, whether it fires or not; the report, the log and the metrics tell
//     of it.
//
// What is not promised: a program whose [Monitor.Run] is not running serves
// the last results for ever; the time of the report ([Report.At]) is the time
// of asking, that of a result is in [CheckReport.At].
package health
