package health

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Run runs the checks, measures the indicators and judges the rules, each at
// its times, until ctx ends; it then returns nil. Checks and measurements under
// way are cancelled and waited for, those that do not answer no longer than
// their timeout. Run may be called once: a second call returns ErrStarted.
func (m *Monitor) Run(ctx context.Context) error {
	if !m.started.CompareAndSwap(false, true) {
		return ErrStarted
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	if m.onChange != nil {
		wg.Go(func() { m.announce(ctx) })
	}
	m.deliverAll(true)
	defer m.deliverAll(false)
	timer := time.NewTimer(0)
	defer timer.Stop()
	wanted := time.Now()
	for {
		select {
		case <-ctx.Done():
			m.drain()
			return nil
		case <-timer.C:
		case <-m.wake:
		}
		// What woke it says nothing of the timer: both may be due.
		now := time.Now()
		if !now.Before(wanted) {
			m.fired(now.Sub(wanted))
		}
		wanted = m.tick(ctx, now)
		timer.Reset(time.Until(wanted))
	}
}

// idle is how long Run sleeps when nothing is scheduled.
const idle = time.Hour

// tick starts and judges what is due and returns when the next thing is.
func (m *Monitor) tick(ctx context.Context, now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := now.Add(idle)
	if m.lag.wanted {
		next = now.Add(lagEvery)
	}
	for _, p := range m.probes {
		if waits, _ := m.waitsFor(p); waits != "" || p.settled() {
			continue // whatever ends the wait wakes Run
		}
		if !p.due.After(now) {
			// A call that has not returned keeps its turn.
			if p.inflight == nil {
				m.start(ctx, p)
			}
			p.due = following(p.due, p.check.Every, now)
		}
		next = earlier(next, p.due)
	}
	for _, s := range m.series {
		if s.Measure == nil {
			continue
		}
		if !s.due.After(now) {
			if s.inflight == nil {
				m.measure(ctx, s)
			}
			s.due = following(s.due, s.Every, now)
		}
		next = earlier(next, s.due)
	}
	for _, j := range m.judges {
		if !j.due.After(now) {
			if j.series.waits() {
				continue // the result wakes Run
			}
			m.judge(j, now)
			j.due = following(j.due, j.rule.Every, now)
		}
		next = earlier(next, j.due)
	}
	return next
}

func (m *Monitor) judge(j *judge, now time.Time) {
	if j.decide(now) {
		m.tell(j)
	}
}

// drain waits for the checks and measurements under way.
func (m *Monitor) drain() {
	m.mu.Lock()
	var waits []<-chan struct{}
	for a := range m.active {
		waits = append(waits, a.done)
	}
	m.mu.Unlock()
	for _, done := range waits {
		<-done
	}
}

// announce calls OnChange until ctx ends.
func (m *Monitor) announce(ctx context.Context) {
	last := ""
	for {
		r := m.Report()
		if now := r.fingerprint(); now != last {
			last = now
			m.onChange(r)
		}
		select {
		case <-m.changed:
		case <-ctx.Done():
			return
		}
	}
}

// fingerprint holds what OnChange reports.
func (r Report) fingerprint() string {
	var b strings.Builder
	fmt.Fprintln(&b, r.Live, r.Ready, r.Starting)
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%q %v", c.Name, c.OK)
		if c.Pushed {
			fmt.Fprintf(&b, " %q", c.Error)
		}
		fmt.Fprintln(&b)
	}
	for _, a := range r.Alerts {
		fmt.Fprintf(&b, "%q\n", a.Name)
	}
	return b.String()
}

// following is one period after due or, if that has passed already, one period
// from now: what was missed is not made up for.
func following(due time.Time, every time.Duration, now time.Time) time.Time {
	if next := due.Add(every); next.After(now) {
		return next
	}
	return now.Add(every)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
