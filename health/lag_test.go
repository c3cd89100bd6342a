package health

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// stall is a log that is written to in the Monitor's own loop.
type stall struct {
	slog.Handler
	call func()
}

func (s stall) Handle(context.Context, slog.Record) error { s.call(); return nil }

// TestTimerThatFiresLateIsFound also where something else wakes the Monitor
// first, twenty times over: which of the two it sees is left to chance.
func TestTimerThatFiresLateIsFound(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			var m *Monitor
			m, err := New(Config{
				Rules: []Rule{{Name: "r", Indicator: "i", Every: 7 * time.Second, For: 7 * time.Second}},
				Logger: slog.New(stall{slog.NewTextHandler(io.Discard, nil), func() {
					if j := m.judges[0]; j.state == Firing && time.Since(j.entered) == 0 { // at 7 s, when nothing else is due
						time.Sleep(3 * time.Second) //nolint:forbidigo // nothing waits: the process stands still
						notify(m.wake)
					}
				}}),
			})
			if err != nil {
				t.Fatal(err)
			}
			m.Observe("i", 1)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- m.Run(ctx) }()
			time.Sleep(15 * time.Second) //nolint:forbidigo // nothing waits: the clock is the bubble's
			// The timer of the eighth second, in the measurement of the tenth.
			for _, i := range m.Report().Indicators {
				if i.Name == EventLoopLag && (i.Value != 2 || !strings.HasPrefix(i.Basis, "worst of ")) {
					t.Errorf("the process stood still for 3 s, and the lag is %v (%s), want 2 s", i.Value, i.Basis)
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestProcessWithoutADescriptorLeftIsAtItsLimit: it cannot count them, which is
// no reason to go by what was counted before.
func TestProcessWithoutADescriptorLeftIsAtItsLimit(t *testing.T) {
	s, err := openFiles(0, 1024, &os.PathError{Op: "open", Path: "/proc/self/fd", Err: syscall.EMFILE})
	if err != nil || s.Value != 100 || s.Basis == "" {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := openFiles(0, 1024, errors.ErrUnsupported); err == nil {
		t.Errorf("%+v", s)
	}
}

func TestInfinitiesThatCancelOutAreAMissingAnswer(t *testing.T) {
	j, now := newJudge(Rule{Above: 5, Fold: Sum, Every: time.Second}, &series{}), time.Unix(1, 0)
	for range 2 { // it fires, and goes on to
		j.add(math.Inf(1))
		j.add(math.Inf(-1))
		j.decide(now)
		if j.state != Firing || !math.IsInf(j.value, 1) {
			t.Errorf("%s at %v", j.state, j.value)
		}
	}
}
