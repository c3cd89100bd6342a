package health_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perennial-go/perennial/health"
)

// TestDeadlockedMainLoopIsNotLive has a loop and its helper wait for each other.
func TestDeadlockedMainLoopIsNotLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		pulse, err := m.Pulse("main-loop", 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, m)
		defer stop()
		jobs, answers, deadlock := make(chan int), make(chan int), make(chan struct{})
		go func() { // the helper
			for n := range jobs {
				if n == 10 {
					<-deadlock // it waits for the loop, which waits for it
				}
				answers <- n
			}
			close(answers)
		}()
		go func() { // the main loop
			for n := range 20 {
				pulse.Beat()
				jobs <- n
				<-answers
				work(5 * time.Second)
			}
			pulse.Rest()
			close(jobs)
		}()
		advance(50*time.Second + 10*time.Second)
		if r := m.Report(); !r.Live {
			t.Errorf("within what is allowed: %+v", r.Checks)
		}
		advance(2501 * time.Millisecond)
		r := m.Report()
		if c := check(t, r, "main-loop"); r.Live || !r.Ready || !strings.HasPrefix(c.Error, "no beat for ") {
			t.Errorf("a deadlocked loop: live %v, ready %v, %+v", r.Live, r.Ready, c)
		}
		close(deadlock)
		advance(7500 * time.Millisecond)
		if r := m.Report(); !r.Live {
			t.Errorf("the loop goes round again: %+v", r.Checks)
		}
		advance(10 * time.Minute)
		if r := m.Report(); !r.Live {
			t.Errorf("a loop that rests: %+v", r.Checks)
		}
	})
}

func TestSilenceOfALoopCountsFromTheEndOfStartup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		m.SetStartup("cache", errDown)
		if _, err := m.Pulse("loop", 4*time.Second); err != nil {
			t.Fatal(err)
		}
		stop := run(t, m)
		defer stop()
		advance(time.Minute)
		m.SetStartup("cache", nil)
		advance(4 * time.Second)
		if r := m.Report(); !r.Live {
			t.Errorf("%+v", r.Checks)
		}
		advance(2 * time.Second)
		if r := m.Report(); r.Live {
			t.Error("a loop that never began is live")
		}
	})
}

func TestPulseNeedsATimeAndANameOfItsOwn(t *testing.T) {
	m := newMonitor(t, health.Config{})
	if _, err := m.Pulse("loop", -time.Second); !errors.Is(err, health.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	if _, err := m.Pulse("main loop", 0); !errors.Is(err, health.ErrInvalid) {
		t.Errorf("got %v, want a name with a blank to be refused", err)
	}
	if _, err := m.Pulse("loop", 0); err != nil {
		t.Error(err)
	}
	if _, err := m.Pulse("loop", 0); !errors.Is(err, health.ErrDuplicate) {
		t.Errorf("got %v, want ErrDuplicate", err)
	}
	var none *health.Pulse
	none.Beat() // must not panic: a loop need not know whether it is watched
	none.Rest()
}
