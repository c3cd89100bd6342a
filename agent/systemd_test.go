package agent

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/upgrade"
)

// deadlockCheck hangs while path exists.
func deadlockCheck(path string) health.Check {
	return health.Check{
		Name: "lock", Kind: health.Liveness, Every: 20 * time.Millisecond, Timeout: 100 * time.Millisecond,
		Func: func(context.Context) error {
			if _, err := os.Stat(path); err == nil {
				select {}
			}
			return nil
		},
	}
}

// echo answers while it is still asked.
func echo(w http.ResponseWriter, r *http.Request) {
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.Copy(w, r.Body)
}

func TestWatchdogOfAnotherProcessIsNotFed(t *testing.T) {
	self, parent := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getppid())
	for _, c := range []struct {
		name, pid, usec, socket string
		successor               bool
		want                    time.Duration
	}{
		{name: "own", pid: self, usec: "3000000", want: 3 * time.Second},
		{name: "no pid", pid: "", usec: "3000000", want: 3 * time.Second},
		{name: "another", pid: "1", usec: "3000000"},
		{name: "the parent's", pid: parent, usec: "3000000"},
		{name: "the incumbent's", pid: "1", usec: "3000000", successor: true, want: 3 * time.Second},
		{name: "none", pid: self},
		{name: "nonsense", pid: self, usec: "soon"},
		{name: "negative", pid: self, usec: "-1"},
		{name: "nobody listens", pid: self, usec: "3000000", socket: "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("WATCHDOG_PID", c.pid)
			t.Setenv("WATCHDOG_USEC", c.usec)
			t.Setenv("NOTIFY_SOCKET", strings.Trim("/nowhere"+c.socket, "-"))
			if c.socket != "" {
				t.Setenv("NOTIFY_SOCKET", "")
			}
			s := newServiceManager(slog.New(slog.DiscardHandler))
			s.begin(c.successor)
			if s.watchdog != c.want {
				t.Errorf("watchdog of %v, want %v", s.watchdog, c.want)
			}
			_, left := os.LookupEnv("WATCHDOG_USEC")
			if refused := c.want == 0 && c.usec == "3000000" && c.socket == ""; left == refused {
				t.Errorf("a successor would inherit WATCHDOG_USEC: %v", left)
			}
		})
	}
}

func TestLivenessIsAskedTwiceInAWatchdogsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serviceManager{log: slog.New(slog.DiscardHandler), watchdog: 10 * time.Second}
		ctx, cancel := context.WithTimeout(t.Context(), 31*time.Second)
		defer cancel()
		asked := 0
		s.guard(ctx, func() bool {
			asked++
			return true
		})
		if asked != 6 {
			t.Errorf("asked %d times in 31 s, want every 5 s", asked)
		}
	})
}

func TestWithoutAServiceManagerNothingIsSaid(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	s := newServiceManager(slog.New(failingHandler{t}))
	s.begin(false)
	s.ready("1.0.0")
	s.follow(upgrade.Status{Attempt: upgrade.Attempt{State: upgrade.Starting}})
	s.superseded(1, "1.1.0")
	s.stopping(t.Context(), "test")()
}

// failingHandler fails the test with the first line of log.
type failingHandler struct{ testing.TB }

func (failingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h failingHandler) Handle(_ context.Context, r slog.Record) error {
	h.Errorf("logged %q", r.Message)
	return nil
}
func (h failingHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h failingHandler) WithGroup(string) slog.Handler      { return h }
