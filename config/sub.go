package config

import (
	"context"
	"errors"
	"fmt"
)

// Sub has apply called with part of the configuration: at once if one is in
// force, else with the first that Run loads; and from then on whenever that
// part has changed (reflect.DeepEqual), with its old and its new value. In the
// first call old is the zero value of P. Neither may be modified. name says in
// the status who refused a configuration. Sub may be called at any time, and
// returns the error of the call that it makes itself. stop ends the
// subscription; a call that is going on goes on.
//
// A new configuration comes into force when all agree. Subscribers are called
// one after the other, in the order in which they subscribed, never twice at
// the same time. Meanwhile Snapshot returns the former configuration, so that
// what is read there is never taken back. When all have returned nil, Snapshot
// returns the new one.
//
// An apply that returns an error has left things as they were. Everybody who
// has already taken the new configuration is then called with old and new the
// other way round, the last first, and the former stays in force. So it does
// if apply panics, after which it, too, is called the other way round; and if
// it has not returned a second after Config.ApplyTimeout, when ctx ends.
// Should it return nil later still, it is called the other way round then;
// until it returns, changes of its part are refused in its name, without
// anybody being called; the newest is tried when it does. One that never
// returns does not keep Run from ending.
//
// A configuration that was refused so is tried ApplyAttempts times in all,
// with pauses that double from a second, since the cause may lie outside of
// it. Then it waits for the documents to change.
func Sub[T, P any](s *Store[T], name string, part func(*T) P, apply func(ctx context.Context, old, new P) error) (stop func(), err error) {
	if name == "" || part == nil || apply == nil {
		return nil, errors.New("config subscription: want a name, a part and what applies it")
	}
	// A box, since P may be an interface, and nil.
	type box struct{ P P }
	sub := &subscriber{
		name: fmt.Sprintf("subscriber %q", name),
		part: func(c content) any { return box{part(valueOf[T](c))} },
		apply: func(ctx context.Context, old, new any) error {
			before, _ := old.(box) // none in the first call
			after, _ := new.(box)
			return apply(ctx, before.P, after.P)
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.ApplyTimeout)
	defer cancel()
	if err := s.subs.add(ctx, sub); err != nil {
		return nil, fmt.Errorf("config: refused by %s: %w", sub.name, err)
	}
	return func() { s.subs.remove(sub) }, nil
}

// add lets a subscriber in. If there is a configuration it is told, before it
// can be told of any other.
func (l *subscribers) add(ctx context.Context, sub *subscriber) error {
	sub.calling.Lock()
	l.mu.Lock()
	l.list = append(l.list, sub)
	now, ready := l.now, l.ready
	l.mu.Unlock()
	var err error
	if ready {
		err = guard(func() error { return sub.apply(ctx, nil, sub.part(now)) })
		sub.has.Store(err == nil)
	}
	sub.calling.Unlock()
	if err != nil {
		l.remove(sub)
	}
	return err
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
