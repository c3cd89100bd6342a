package health_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perennial-go/perennial/health"
)

// body is what m's handler answers to a GET.
func body(m *health.Monitor, path string) string {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil))
	return w.Body.String()
}

// TestFigureThatCannotBeMeasuredAnyMoreIsTold: its value and its alert stand as
// they were, which must not pass for how things are.
func TestFigureThatCannotBeMeasuredAnyMoreIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var value atomic.Int64
		var down atomic.Bool
		value.Store(9)
		f := figure("f", func(context.Context) (health.Sample, error) {
			if down.Load() {
				return health.Sample{}, errDown
			}
			return health.Sample{Value: float64(value.Load())}, nil
		})
		f.Rules = []health.Rule{{Above: 5}}
		never := figure("never", func(context.Context) (health.Sample, error) { return health.Sample{}, errors.ErrUnsupported })
		m := newMonitor(t, health.Config{NoBuiltIn: true, Rules: []health.Rule{}, Indicators: []health.Indicator{f, never}})
		stop := run(t, m)
		defer stop()
		tells := func(state health.State, failing int) {
			t.Helper()
			if a := m.Alerts()[0]; a.State != state {
				t.Errorf("the alert is %s, want %s", a.State, state)
			}
			if metrics, want := body(m, "/metrics"), fmt.Sprintf("indicator_failing{indicator=\"f\"} %d\n", failing); !strings.Contains(metrics, want) || strings.Contains(metrics, `failing{indicator="never"} 1`) {
				t.Errorf("want %s in\n%s", want, metrics)
			}
			if verbose := body(m, "/readyz?verbose"); strings.Contains(verbose, ": down\n") != (failing == 1) {
				t.Errorf("measured: %v, and told is\n%s", failing == 0, verbose)
			}
		}
		advance(5 * time.Second)
		tells(health.Firing, 0)
		down.Store(true)
		advance(time.Hour)
		tells(health.Firing, 1)
		down.Store(false)
		value.Store(1)
		advance(10 * time.Second)
		tells(health.Resolved, 0)
		down.Store(true)
		advance(time.Hour)
		tells(health.Inactive, 1)
	})
}

func TestConditionsAreBoundedAndNamedAsChecksAre(t *testing.T) {
	if _, err := health.New(health.Config{Conditions: []string{"two\nlines"}}); !errors.Is(err, health.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	m := newMonitor(t, health.Config{})
	for n := range 1100 {
		m.Set(fmt.Sprint("c", n), nil)
	}
	if n := len(m.Report().Checks); n != 1000 {
		t.Errorf("%d conditions, want 1000", n)
	}
	m.Set("c5", errDown)
	if check(t, m.Report(), "c5").OK {
		t.Error("one that there is cannot be set any more")
	}
	m.RemoveCheck("c5")
	m.Set("late", errDown)
	if check(t, m.Report(), "late").OK {
		t.Error("one more after one was removed is not taken")
	}
}
