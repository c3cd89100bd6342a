package health

import (
	"context"
	"fmt"
	"time"
)

// lagEvery is how often Run wakes to see how late it is.
const lagEvery = time.Second

// lag is how late Run's timer fired since the last measurement. Monitor.mu
// guards it.
type lag struct {
	wanted bool // there is an indicator
	worst  time.Duration
	timers int
}

// fired takes note of a timer that fires late.
func (m *Monitor) fired(late time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lag.worst = max(m.lag.worst, late)
	m.lag.timers++
}

// measureLag is the built-in Measure of EventLoopLag.
func (m *Monitor) measureLag(context.Context) (Sample, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lag.timers == 0 {
		return Sample{}, ErrNoSample
	}
	s := Sample{Value: m.lag.worst.Seconds(), Basis: fmt.Sprintf("worst of %d timers", m.lag.timers)}
	m.lag.worst, m.lag.timers = 0, 0
	return s, nil
}
