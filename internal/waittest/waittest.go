// Package waittest is how tests wait: for a condition, never for a time.
package waittest

import (
	"errors"
	"testing"
	"time"
)

// Patience is how long a test waits for what is to happen soon. It is reached
// only when the code under test is broken, so it is long enough for any
// machine.
const Patience = time.Minute

// poll is the time between two looks.
const poll = 5 * time.Millisecond

var errNotYet = errors.New("it is not so")

// Until returns once ok does, and ends the test if that takes longer than
// Patience. what is a sentence for the message: "the agent is registered".
func Until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	Within(tb, Patience, what, ok)
}

// Within is Until with another limit.
func Within(tb testing.TB, limit time.Duration, what string, ok func() bool) {
	tb.Helper()
	wait(tb, limit, what, func() error {
		if ok() {
			return nil
		}
		return errNotYet
	})
}

// Nil returns once check does not fail any more; the last error is part of the
// message if it keeps failing.
func Nil(tb testing.TB, what string, check func() error) {
	tb.Helper()
	wait(tb, Patience, what, check)
}

func wait(tb testing.TB, limit time.Duration, what string, check func() error) {
	tb.Helper()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("not within %v: %s: %v", limit, what, err)
		}
	}
}

// Next receives from c, and ends the test if nothing comes within Patience.
func Next[T any](tb testing.TB, what string, c <-chan T) T {
	tb.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	select {
	case v := <-c:
		return v
	case <-deadline.C:
		tb.Fatalf("not within %v: %s", Patience, what)
		panic("unreachable")
	}
}
