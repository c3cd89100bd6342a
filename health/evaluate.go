package health

import (
	"context"
	"time"
)

// Evaluate runs all checks now, concurrently, each under its own timeout, and
// returns the tree with their results. A check that comes after others waits
// for them, one that is running already is waited for and not started again;
// one that hangs past its timeout is not waited for. If ctx ends first, the
// tree has the results so far. Run need not be running. Rules keep to their
// own times.
func (m *Monitor) Evaluate(ctx context.Context) Report {
	for level, more := 0, true; more; level++ {
		var waits []<-chan struct{}
		waits, more = m.startLevel(ctx, level)
		for _, done := range waits {
			select {
			case <-done:
			case <-ctx.Done():
				return m.Report()
			}
		}
	}
	return m.Report()
}

// startLevel starts the checks with that many before them which may be run now.
// It returns what is done when they have results, and whether there are checks
// with more before them.
func (m *Monitor) startLevel(ctx context.Context, level int) (waits []<-chan struct{}, more bool) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.probes {
		depth := m.depth(p)
		more = more || depth > level
		if before, _ := m.waitsFor(p); depth != level || before != "" || p.settled() {
			continue
		}
		if p.inflight == nil {
			m.start(context.WithoutCancel(ctx), p)
			p.due = now.Add(p.check.Every)
		}
		waits = append(waits, p.inflight.done)
	}
	return waits, more
}
