package agent

import (
	"context"
	"testing"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdtest"
)

func TestClockOffsetIsMeasuredAgainstARealMember(t *testing.T) {
	t.Parallel()
	i := clockIndicator(EtcdConfig{Endpoints: []string{etcdtest.Start(t).URL()}})
	s, err := i.Measure(t.Context())
	if err != nil || s.Value != 0 || s.Basis == "" {
		t.Errorf("one and the same clock: %+v, %v", s, err)
	}
}

func TestWhatAProgramSettlesOfAnIndicatorOfTheAgentStays(t *testing.T) {
	measure := func(v float64) func(context.Context) (health.Sample, error) {
		return func(context.Context) (health.Sample, error) { return health.Sample{Value: v}, nil }
	}
	own := health.Indicator{Name: health.ClockOffset, Every: time.Minute, Measure: measure(1)}
	for name, c := range map[string]struct {
		cfg   health.Config
		n     int
		every time.Duration
		value float64
	}{
		"nothing":      {health.Config{}, 1, time.Minute, 1},
		"another":      {health.Config{Indicators: []health.Indicator{{Name: "x"}}}, 2, time.Minute, 1},
		"its interval": {health.Config{Indicators: []health.Indicator{{Name: health.ClockOffset, Every: time.Hour}}}, 1, time.Hour, 1},
		"the figure":   {health.Config{Indicators: []health.Indicator{{Name: health.ClockOffset, Measure: measure(2)}}}, 1, 0, 2},
		"none of them": {health.Config{NoBuiltIn: true}, 0, 0, 0},
	} {
		got := withMeasured(c.cfg, own)
		if len(got) != c.n {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		if c.n == 0 {
			continue
		}
		i := got[c.n-1]
		if s, err := i.Measure(t.Context()); err != nil || s.Value != c.value || i.Every != c.every {
			t.Errorf("%s: %+v measures %v, %v", name, i, s, err)
		}
		if len(c.cfg.Indicators) > 0 && c.value == 1 && c.cfg.Indicators[0].Measure != nil {
			t.Errorf("%s: the program's own list was changed", name)
		}
	}
}
