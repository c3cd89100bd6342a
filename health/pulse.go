package health

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Pulse tells that a loop of the program still goes round. The loop calls Beat
// in each turn; when it has not for longer than the pulse allows, such as in a
// deadlock, a check of kind Liveness fails, and passes again with the next
// beat. A loop that may wait long for something to do wakes up for a beat
// meanwhile, or calls Rest before it waits.
//
// Its methods may be called concurrently, and on a nil Pulse, where they do
// nothing. They cost an atomic store.
type Pulse struct {
	name    string
	within  time.Duration
	every   time.Duration
	beats   atomic.Uint64
	resting atomic.Bool

	// Of the check, which never runs twice at a time.
	seen   uint64
	asked  time.Time
	silent time.Duration
}

// defaultWithin is how long a loop may be silent that says nothing else.
const defaultWithin = 30 * time.Second

// Pulse adds a check of kind Liveness called name, which fails when neither
// Beat nor Rest is called for longer than within; 0 means 30 s. It is found out
// a quarter of that later at most. The silence counts from when the pulse is
// added and startup is over. Time in which the process itself stood still, as
// when it is stopped or its machine sleeps, is no silence. RemoveCheck ends it.
// Errors are those of AddCheck.
func (m *Monitor) Pulse(name string, within time.Duration) (*Pulse, error) {
	if within == 0 {
		within = defaultWithin
	}
	if within < time.Millisecond {
		return nil, fmt.Errorf("%w: pulse %s: within %v: want 0, for %v, or at least 1ms", ErrInvalid, name, within, defaultWithin)
	}
	p := &Pulse{name: name, within: within, every: within / 4}
	err := m.AddCheck(Check{Name: name, Kind: Liveness, Every: p.every, Func: func(context.Context) error {
		a, _ := m.now()
		return p.ask(a.started, time.Now())
	}})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Beat tells that the loop goes round.
func (p *Pulse) Beat() {
	if p != nil {
		p.beats.Add(1)
		p.resting.Store(false)
	}
}

// Rest tells that the loop waits for something that need not come soon, or does
// what others bound and watch. It is not judged until the next Beat.
func (p *Pulse) Rest() {
	if p != nil {
		p.resting.Store(true)
	}
}

// ask is the check. The silence is the sum of the pauses between its own calls,
// of which none counts for more than twice what it should be: a process that
// stood still could not beat either.
func (p *Pulse) ask(started bool, now time.Time) error {
	pause := min(now.Sub(p.asked), 2*p.every)
	beats := p.beats.Load()
	if p.asked.IsZero() || !started || beats != p.seen || p.resting.Load() {
		pause, p.silent = 0, 0
	}
	p.seen, p.asked = beats, now
	if p.silent += pause; p.silent > p.within {
		return fmt.Errorf("no beat for %v, want one within %v: the loop is stuck, or does not call Beat", p.silent.Round(time.Millisecond), p.within)
	}
	return nil
}
