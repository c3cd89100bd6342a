package agent

import (
	"context"
	"sync"
	"time"
)

// State is where an agent stands in its life.
type State string

// The states of an agent. Upgrading leads back to running when the upgrade
// fails, and to terminating when a successor has taken over.
const (
	Initializing State = "initializing"
	Running      State = "running"
	Upgrading    State = "upgrading"
	Terminating  State = "terminating"
	Terminated   State = "terminated"
)

// Event is a change of state.
type Event struct {
	State  State     `json:"state"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// eventBuffer is how many events a slow reader may be behind before it
// misses the oldest.
const eventBuffer = 16

// lifecycle holds the present state and tells its changes.
type lifecycle struct {
	mu      sync.Mutex
	current Event
	readers map[chan Event]struct{}
	changed func()
}

func newLifecycle(changed func()) *lifecycle {
	return &lifecycle{
		current: Event{State: Initializing, Reason: "created", At: time.Now().UTC()},
		readers: map[chan Event]struct{}{},
		changed: changed,
	}
}

func (l *lifecycle) get() Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// set changes the state. Once terminating, only terminated follows.
func (l *lifecycle) set(s State, reason string) {
	l.mu.Lock()
	now := l.current.State
	if now == Terminated || (now == Terminating && s != Terminated) || (now == s && l.current.Reason == reason) {
		l.mu.Unlock()
		return
	}
	l.current = Event{State: s, Reason: reason, At: time.Now().UTC()}
	for r := range l.readers {
		offer(r, l.current)
	}
	l.mu.Unlock()
	l.changed()
}

// offer drops the oldest event of a reader that does not keep up.
func offer(r chan Event, e Event) {
	for {
		select {
		case r <- e:
			return
		default:
		}
		select {
		case <-r:
		default:
		}
	}
}

// subscribe returns a channel that begins with the present state and is
// closed when ctx ends.
func (l *lifecycle) subscribe(ctx context.Context) <-chan Event {
	r := make(chan Event, eventBuffer)
	l.mu.Lock()
	r <- l.current
	l.readers[r] = struct{}{}
	l.mu.Unlock()
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.readers, r)
		close(r)
	})
	return r
}
