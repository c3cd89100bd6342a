package health

import (
	"context"
	"errors"
	"math"
	"time"
)

// series is an indicator with its last sample. Monitor.mu guards it.
type series struct {
	Indicator
	declared bool     // else a rule or Observe named it
	judges   []*judge // in the order in which they were added

	due      time.Time
	inflight *attempt

	value float64
	at    time.Time // zero: no sample
	basis string

	failed bool   // the last measurement
	text   string // of the last that failed
	textAt time.Time
}

// waits reports whether a measurement is under way whose result is to come.
func (s *series) waits() bool { return s.inflight != nil && !s.inflight.over }

func (s *series) take(value float64, basis string, now time.Time) {
	s.value, s.at, s.basis = value, now, basis
	for _, j := range s.judges {
		j.add(value)
	}
}

// Observe pushes a sample of an indicator. +Inf stands for an answer that did
// not come; NaN counts as +Inf. An indicator that nobody declared is made: what
// has no valid name, or is one too many, is ignored with one log line.
func (m *Monitor) Observe(indicator string, value float64) {
	m.ObserveSample(indicator, Sample{Value: value})
}

// ObserveSample is Observe with a basis.
func (m *Monitor) ObserveSample(indicator string, sample Sample) {
	if math.IsNaN(sample.Value) {
		sample.Value = math.Inf(1)
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.series[indicator]
	if s == nil {
		if !validName(indicator) || len(m.series) >= maxIndicators {
			if !m.ignored {
				m.ignored = true
				m.log.Error("samples of an indicator are ignored: its name is not valid, or there are too many", "name", indicator, "total", maxIndicators)
			}
			return
		}
		s = m.sampled(indicator)
	}
	s.take(sample.Value, oneLine(sample.Basis), now)
}

// sampled returns the series of an indicator, a new one if need be. m.mu is
// held.
func (m *Monitor) sampled(indicator string) *series {
	s := m.series[indicator]
	if s == nil {
		s = &series{Indicator: Indicator{Name: indicator}}
		m.series[indicator] = s
	}
	return s
}

// measure starts one measurement. m.mu is held.
func (m *Monitor) measure(ctx context.Context, s *series) {
	var sample Sample
	s.inflight = m.begin(ctx, s.Timeout, func(ctx context.Context) (err error) {
		sample, err = s.Measure(ctx)
		return err
	}, asked{
		settle: func(err error, _ time.Duration) {
			notify(m.wake) // for the rules that wait for this
			if m.series[s.Name] != s {
				return
			}
			if err != nil { // and what a call that goes on writes to sample is its own
				m.measured(s, Sample{}, err)
				return
			}
			if math.IsNaN(sample.Value) {
				err = errNaN
			}
			m.measured(s, sample, err)
		},
		returned: func(time.Duration, bool) { s.inflight = nil },
	})
}

var errNaN = errors.New("measured NaN: want a number, or ErrNoSample where there is none")

// measured takes the result of a measurement. m.mu is held.
func (m *Monitor) measured(s *series, sample Sample, err error) {
	now, before := time.Now(), s.failed
	none := errors.Is(err, ErrNoSample)
	if s.failed = err != nil && !none; s.failed {
		s.text, s.textAt = errorText(err), now
	} else if !none {
		s.take(sample.Value, oneLine(sample.Basis), now)
	}
	switch {
	case s.failed == before:
	case errors.Is(err, errors.ErrUnsupported):
		m.log.Info("indicator is not measured on this system", "indicator", s.Name, "error", s.text)
	case s.failed:
		m.log.Warn("indicator is not measured", "indicator", s.Name, "error", s.text)
	default:
		m.log.Info("indicator is measured again", "indicator", s.Name)
	}
}

// report is what a rule adds to.
func (s *series) report() IndicatorReport {
	return IndicatorReport{
		Name: s.Name, Value: Number(s.value), Unit: s.Unit, Help: s.Help, Basis: s.basis, At: s.at,
		State: Unknown, Error: s.text, ErrorAt: s.textAt, failing: s.failed,
	}
}

// shown reports whether there is anything to tell of s without a rule: a value,
// or why there is none.
func (s *series) shown() bool { return !s.at.IsZero() || s.text != "" }
