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
	// budget is how many may be.
	budget int
	// grace is for how long an agent that died while it was under way goes on
	// being counted.
	grace time.Duration

	mu       sync.Mutex
	down     map[string]bool
	dead     map[string]time.Time // of those that are down, until when they count
	most     int
	falls    int
	breaches []string
}

// NewLedger allows budget agents to be down at once. One that dies while it is
// under way counts for grace.
func NewLedger(budget int, grace time.Duration) *Ledger {
	return &Ledger{budget: budget, grace: grace, down: map[string]bool{}, dead: map[string]time.Time{}}
}

// Fall notes that an agent goes down.
func (l *Ledger) Fall(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for other, until := range l.dead {
		if now.After(until) {
			delete(l.down, other)
			delete(l.dead, other)
		}
	}
	l.down[id] = true
	delete(l.dead, id)
	l.falls++
	l.most = max(l.most, len(l.down))
	if len(l.down) > l.budget {
		l.breaches = append(l.breaches, fmt.Sprintf("%d agents are down and %d may be: %s is the last", len(l.down), l.budget, id))
	}
}

// Restart forgets what was, and allows budget from now on.
func (l *Ledger) Restart(budget int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.budget, l.most, l.falls, l.breaches = budget, len(l.down), 0, nil
}

// Rise notes that an agent is up again.
func (l *Ledger) Rise(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.down, id)
	delete(l.dead, id)
}

// Die notes that an agent which may be under way is gone.
func (l *Ledger) Die(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down[id] {
		l.dead[id] = time.Now().Add(l.grace)
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
