package config

import (
	"context"
	"errors"
	"fmt"
)

// Subscription is what Sub returns.
type Subscription[P any] struct {
	first P
	stop  func()
}

// First returns the part that was in force when the subscription was made:
// what the first call's old will be.
func (s *Subscription[P]) First() P { return s.first }

// Stop ends the subscription. A call that is going on goes on.
func (s *Subscription[P]) Stop() { s.stop() }

// Sub has apply called whenever part of the configuration changes, with its
// old and its new value, neither of which may be modified. name says in the
// status who refused a configuration. It may be called at any time; the first
// configuration that Run loads is a change of the default.
//
// A new configuration comes into force when all agree. Subscribers are called
// from Run's side, one after the other in the order in which they subscribed,
// only those whose part differs (reflect.DeepEqual); one is never called twice
// at the same time. Meanwhile Snapshot returns the former configuration: what
// is read there was never refused. When all have returned nil, Snapshot returns
// the new one.
//
// An apply that returns an error has left things as they were. Everybody who
// has already taken the new configuration is then called with old and new the
// other way round, the last first, and the former stays in force. So it does
// if apply panics, after which it, too, is called the other way round, and if
// it has not returned a second after Config.ApplyTimeout, when ctx ends.
// Should it return nil later still, it is called the other way round then;
// until it returns, changes of its part are refused in its name.
//
// A refused configuration is tried ApplyAttempts times in all, with pauses
// that double from a second, since the cause may lie outside of it; then it
// waits for another one to be published.
func Sub[T, P any](s *Store[T], name string, part func(*T) P, apply func(ctx context.Context, old, new P) error) (*Subscription[P], error) {
	if name == "" || part == nil || apply == nil {
		return nil, errors.New("config subscription: want a name, a part and what applies it")
	}
	// A box, since P may be an interface, and nil.
	type box struct{ P P }
	sub := &subscriber{
		name: fmt.Sprintf("subscriber %q", name),
		part: func(c content) any { return box{part(c.value.(*T))} },
		apply: func(ctx context.Context, old, new any) error {
			return apply(ctx, old.(box).P, new.(box).P)
		},
	}
	now := s.subs.add(sub)
	return &Subscription[P]{first: part(now.value.(*T)), stop: func() { s.subs.remove(sub) }}, nil
}

func (l *subscribers) add(sub *subscriber) (now content) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, sub)
	return l.now
}

func (l *subscribers) remove(sub *subscriber) {
	sub.gone.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*subscriber, 0, len(l.list))
	for _, other := range l.list {
		if other != sub {
			list = append(list, other)
		}
	}
	l.list = list
}

// subscribe lets the sections' owners in before everybody else, who start on
// the defaults.
func (list sections) subscribe(l *subscribers, defaults []any) {
	var first []*subscriber
	for i, section := range list {
		first = append(first, &subscriber{
			name:  fmt.Sprintf("section %q", section.Name),
			part:  func(c content) any { return c.sections[i] },
			apply: func(ctx context.Context, _, new any) error { return section.Apply(ctx, new) },
		})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(first, l.list...)
	l.now.sections = defaults
}
