package health_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perennial-go/perennial/health"
)

// figure is an indicator whose measurement the test answers.
func figure(name string, measure func(context.Context) (health.Sample, error)) health.Indicator {
	return health.Indicator{Name: name, Unit: "things", Every: 10 * time.Second, Measure: measure}
}

func steady(context.Context) (health.Sample, error) {
	return health.Sample{Value: 1, Basis: "one"}, nil
}

func TestHungMeasurementHarmsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, calls, inside := make(chan struct{}), 0, 0
		m := newMonitor(t, health.Config{NoBuiltIn: true, Rules: []health.Rule{}, Indicators: []health.Indicator{
			figure("good", steady),
			figure("hung", func(context.Context) (health.Sample, error) {
				calls++
				inside++
				<-release // whatever the context says
				inside--
				return health.Sample{Value: 7}, nil
			}),
		}})
		stop := run(t, m)
		begun := time.Now()
		advance(time.Minute)
		r := m.Report()
		if i := indicator(t, r, "good"); i.Value != 1 || !i.At.Equal(begun.Add(time.Minute)) || i.Basis != "one" || i.Unit != "things" {
			t.Errorf("beside one that hangs: %+v", i)
		}
		if i := indicator(t, r, "hung"); calls != 1 || inside != 1 || !i.At.IsZero() || i.Error != "no answer within 2s" || !i.ErrorAt.Equal(begun.Add(2*time.Second)) {
			t.Errorf("%d calls, %d of them inside: %+v", calls, inside, i)
		}
		release <- struct{}{}
		synctest.Wait()
		if i := indicator(t, m.Report(), "hung"); !i.At.IsZero() {
			t.Errorf("an answer that came after its time counts: %+v", i)
		}
		close(release)
		advance(10 * time.Second)
		if i := indicator(t, m.Report(), "hung"); i.Value != 7 || !i.At.After(i.ErrorAt) {
			t.Errorf("it does not recover: %+v", i)
		}
		stop()
	})
}

func TestMeasurementThatFailsKeepsTheValueAndTellsWhy(t *testing.T) {
	for name, c := range map[string]struct {
		then func() (health.Sample, error)
		want string
	}{
		"error":     {func() (health.Sample, error) { return health.Sample{Value: 9}, errDown }, "down"},
		"panic":     {func() (health.Sample, error) { panic("ouch") }, "panic: ouch: "},
		"NaN":       {func() (health.Sample, error) { return health.Sample{Value: math.NaN()}, nil }, "NaN"},
		"no sample": {func() (health.Sample, error) { return health.Sample{Value: 9}, fmt.Errorf("x: %w", health.ErrNoSample) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				m := newMonitor(t, health.Config{NoBuiltIn: true, Rules: []health.Rule{}, Indicators: []health.Indicator{
					figure("f", func(ctx context.Context) (health.Sample, error) {
						if calls++; calls == 2 {
							return c.then()
						}
						return steady(ctx)
					}),
				}})
				stop := run(t, m)
				defer stop()
				begun := time.Now()
				advance(15 * time.Second)
				i := indicator(t, m.Report(), "f")
				if i.Value != 1 || !i.At.Equal(begun) || !strings.Contains(i.Error, c.want) || (i.Error == "") != (c.want == "") || strings.Contains(i.Error, "\n") {
					t.Errorf("after a value and then %s: %+v", name, i)
				}
				advance(10 * time.Second)
				if j := indicator(t, m.Report(), "f"); !j.At.Equal(begun.Add(20*time.Second)) || j.Error != i.Error {
					t.Errorf("after the next value: %+v", j)
				}
			})
		})
	}
}

// TestRuleJudgesTheMeasurementOfItsOwnTime: not the one of a period ago, and one
// that does not come delays the judgement by its timeout only.
func TestRuleJudgesTheMeasurementOfItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := figure("f", func(ctx context.Context) (health.Sample, error) {
			work(time.Second)
			return health.Sample{Value: 9}, ctx.Err()
		})
		f.Rules = []health.Rule{{Above: 5}}
		hung := figure("g", func(ctx context.Context) (health.Sample, error) {
			<-ctx.Done()
			return health.Sample{}, ctx.Err()
		})
		hung.Rules = []health.Rule{{Above: 5, Silence: time.Second}}
		m := newMonitor(t, health.Config{NoBuiltIn: true, Rules: []health.Rule{}, Indicators: []health.Indicator{f, hung}})
		m.Observe("g", 1)
		begun := time.Now()
		stop := run(t, m)
		defer stop()
		advance(13 * time.Second)
		a := m.Alerts()
		if len(a) != 2 || !a[0].FiredAt.Equal(begun.Add(time.Second)) || !a[1].FiredAt.Equal(begun.Add(12*time.Second)) {
			t.Errorf("fired at %v and %v, begun at %v: want the first measurement, 1 s later, and the second timeout, 12 s later", a[0].FiredAt, a[1].FiredAt, begun)
		}
	})
}

func TestNameOfAnIndicatorIsTakenOnce(t *testing.T) {
	m := newMonitor(t, health.Config{})
	m.Observe("observed", 1)
	for name, c := range map[string]struct {
		add  health.Indicator
		want error
	}{
		"one that is built in":         {figure(health.MemoryPercent, steady), health.ErrDuplicate},
		"one that was observed":        {figure("observed", steady), nil},
		"the same again":               {figure("mine", steady), nil},
		"a name of two lines":          {figure("a\nb", steady), health.ErrInvalid},
		"no name":                      {health.Indicator{}, health.ErrInvalid},
		"time that goes back":          {health.Indicator{Name: "x", Every: -1}, health.ErrInvalid},
		"rule of a name that is taken": {health.Indicator{Name: "y", Rules: []health.Rule{{Name: "memory"}}}, health.ErrDuplicate},
		"two rules of one name":        {health.Indicator{Name: "y", Rules: []health.Rule{{}, {}}}, health.ErrDuplicate},
		"rule of another":              {health.Indicator{Name: "y", Rules: []health.Rule{{Indicator: "z"}}}, health.ErrInvalid},
		"bad rule":                     {health.Indicator{Name: "y", Rules: []health.Rule{{Clear: 1}}}, health.ErrInvalid},
	} {
		if err := m.AddIndicator(c.add); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := m.AddIndicator(figure("mine", steady)); !errors.Is(err, health.ErrDuplicate) {
		t.Errorf("a second indicator of one name: %v, want ErrDuplicate", err)
	}
	if err := m.AddIndicator(health.Indicator{Name: "y"}); err != nil {
		t.Errorf("one that was refused has left something: %v", err)
	}
	if _, err := health.New(health.Config{Indicators: []health.Indicator{{Name: health.Goroutines}, {Name: health.Goroutines}}}); !errors.Is(err, health.ErrDuplicate) {
		t.Errorf("a built-in indicator settled twice: %v, want ErrDuplicate", err)
	}
}

func TestBuiltInIndicatorIsSettledByItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		m := newMonitor(t, health.Config{Rules: []health.Rule{}, Indicators: []health.Indicator{
			{Name: health.Goroutines, Every: time.Minute},
			{Name: health.MemoryPercent, Measure: func(context.Context) (health.Sample, error) { calls++; return health.Sample{Value: 42}, nil }},
		}})
		begun := time.Now()
		stop := run(t, m)
		defer stop()
		advance(30 * time.Second)
		if i := indicator(t, m.Report(), health.Goroutines); !i.At.Equal(begun) || i.Value < 1 || i.Unit == "" {
			t.Errorf("measured every minute, after 30 s: %+v", i)
		}
		if i := indicator(t, m.Report(), health.MemoryPercent); i.Value != 42 || calls != 4 || i.Unit != "percent" {
			t.Errorf("measured by the program every 10 s, %d times after 30 s: %+v", calls, i)
		}
	})
}

// TestIndicatorsAreBounded: each is a series of the metrics, for ever.
func TestIndicatorsAreBounded(t *testing.T) {
	m := newMonitor(t, health.Config{NoBuiltIn: true, Rules: []health.Rule{}})
	for n := range 1100 {
		m.Observe(fmt.Sprint("i", n), 1)
	}
	m.Observe("no name\n", 1)
	if n := len(m.Report().Indicators); n != 1000 {
		t.Errorf("%d indicators, want 1000", n)
	}
	if err := m.AddIndicator(figure("late", steady)); !errors.Is(err, health.ErrInvalid) {
		t.Errorf("one more: %v, want ErrInvalid", err)
	}
	m.RemoveIndicator("i5")
	if err := m.AddIndicator(figure("late", steady)); err != nil {
		t.Errorf("one more after one was removed: %v", err)
	}
}

func TestRemovedIndicatorIsGoneWithItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		m := newMonitor(t, health.Config{NoBuiltIn: true, Rules: []health.Rule{}})
		stop := run(t, m)
		defer stop()
		f := figure("f", func(ctx context.Context) (health.Sample, error) {
			<-ctx.Done()
			ended = true
			return health.Sample{Value: 1}, nil
		})
		f.Timeout = time.Hour
		if err := m.AddIndicator(f); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		m.RemoveIndicator("f")
		synctest.Wait()
		if r := m.Report(); !ended || len(r.Indicators) != 0 {
			t.Errorf("call ended: %v; %+v", ended, r.Indicators)
		}
	})
}

func TestBuiltInIndicatorsMeasureThisProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{DiskPath: t.TempDir()})
		stop := run(t, m)
		defer stop()
		advance(12 * time.Second)
		for name, most := range map[string]float64{
			health.MemoryPercent: 100, health.OpenFilesPercent: 100, health.DiskUsedPercent: 100, health.CPUThrottledPercent: 100,
			health.Goroutines: 1e6, health.EventLoopLag: 0,
		} {
			i := indicator(t, m.Report(), name)
			if strings.Contains(i.Error, "unsupported") {
				continue
			}
			if i.At.IsZero() || i.Value < 0 || float64(i.Value) > most || i.Basis == "" || i.Unit == "" {
				t.Errorf("%+v", i)
			}
		}
	})
}
