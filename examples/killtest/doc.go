// Package killtest has no code: its test runs two agents with plugins, tasks
// and an etcd, kills and stops all of them at random, replaces agents and
// plugins meanwhile, and then balances the books: every line that was written
// to a log is stored once, every task that was submitted has succeeded once and
// was not run again, and nothing is left of what ran.
//
//	go test -v ./killtest
//
// PERENNIAL_KILL_SECONDS is for how long (default 60), PERENNIAL_KILL_SEED what
// is done and when (default 1; printed). The same seed does the same to the same
// targets in the same order; what that meets depends on the machine. Whatever
// ends the test, its time limit included, nothing of it is left.
package killtest
