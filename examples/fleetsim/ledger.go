package fleetsim

import (
	"fmt"
	"sync"
	"time"
)

// Ledger knows which agents are down for the rollout's sake, by what the
// simulated hosts do and not by what anybody reports. Its methods may be called
// concurrently.
type Ledger struct {
	// Budget is how many may be.
	budget int
	// grace is for how long an agent that died while it was under way goes on
	// being counted.
	grace time.Duration

	mu       sync.Mutex
	down     map[string]time.Time // until when it counts; zero = until it is up
	most     int
	falls    int
	breaches []string
}

// NewLedger allows budget agents to be down at once. One that dies while it is
// under way counts for grace.
func NewLedger(budget int, grace time.Duration) *Ledger {
	return &Ledger{budget: budget, grace: grace, down: map[string]time.Time{}}
}

// Fall notes that an agent goes down.
func (l *Ledger) Fall(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for other, until := range l.down {
		if !until.IsZero() && now.After(until) {
			delete(l.down, other)
		}
	}
	l.down[id] = time.Time{}
	l.falls++
	l.most = max(l.most, len(l.down))
	if len(l.down) > l.budget {
		l.breaches = append(l.breaches, fmt.Sprintf("%d agents are down and %d may be: %s is the last", len(l.down), l.budget, id))
	}
}

// Rise notes that an agent is up again.
func (l *Ledger) Rise(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.down, id)
}

// Die notes that an agent which may be under way is gone.
func (l *Ledger) Die(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until, down := l.down[id]; down && until.IsZero() {
		l.down[id] = time.Now().Add(l.grace)
	}
}

// Falls counts how often an agent went down, and returns the most that were at
// once.
func (l *Ledger) Falls() (falls, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.falls, l.most
}

// Breaches are the moments in which too many were down.
func (l *Ledger) Breaches() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.breaches...)
}
