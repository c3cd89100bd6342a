package config

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// lateGrace is how long a subscriber may take, once its deadline has passed
// or the program ends, to see that and return.
const lateGrace = time.Second

// subscriber is told of changes of its part of a configuration.
type subscriber struct {
	name  string
	part  func(content) any
	apply func(ctx context.Context, old, new any) error
	busy  atomic.Bool // a call that was given up on has not returned
	gone  atomic.Bool
}

// subscribers are told one after the other, in the order in which they came.
type subscribers struct {
	mu   sync.Mutex
	list []*subscriber
	now  content // in force
}

// next returns the first that is not in told. With none left publish is
// called, under the lock, so that nobody comes in between.
func (l *subscribers) next(told map[*subscriber]bool, to content, publish func()) *subscriber {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sub := range l.list {
		if !told[sub] && !sub.gone.Load() {
			return sub
		}
	}
	l.now = to
	publish()
	return nil
}

func (l *subscribers) current() content {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// refusal is why a configuration did not come into force.
type refusal struct {
	subscriber string
	err        error
}

func (r *refusal) Error() string { return fmt.Sprintf("refused by %s: %v", r.subscriber, r.err) }

func (r *refusal) Unwrap() error { return r.err }

// change is one change from one configuration to another.
type change struct {
	*subscribers
	from, to content
	timeout  time.Duration // of each call
	late     *sync.WaitGroup
	log      func(message string, args ...any)
}

// run tells all whose part differs, then publishes. If one refuses, those that
// have taken the new configuration are given the former one again, the last
// first, and nothing is published.
func (c *change) run(ctx context.Context, publish func()) error {
	told := map[*subscriber]bool{}
	var taken []*subscriber
	for {
		sub := c.next(told, c.to, publish)
		if sub == nil {
			return nil
		}
		told[sub] = true
		differs, err := sub.differs(c.from, c.to)
		if err == nil && !differs {
			continue
		}
		if err == nil {
			err = c.tell(ctx, sub)
		}
		if err == nil {
			taken = append(taken, sub)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err() // the program ends: there is nothing to go back to
		}
		if _, half := errors.AsType[*panicked](err); half {
			taken = append(taken, sub) // how far it got is not known
		}
		return c.undo(ctx, taken, &refusal{subscriber: sub.name, err: err})
	}
}

func (c *change) undo(ctx context.Context, taken []*subscriber, why *refusal) error {
	back := *c
	back.from, back.to = c.to, c.from
	for i := len(taken) - 1; i >= 0; i-- {
		if err := back.tell(ctx, taken[i]); err != nil {
			why.err = fmt.Errorf("%w; and %s did not go back to the former configuration: %w", why.err, taken[i].name, err)
		}
	}
	return why
}

// tell calls a subscriber, and gives up on it when its time is over.
func (c *change) tell(ctx context.Context, sub *subscriber) error {
	if !sub.busy.CompareAndSwap(false, true) {
		return errors.New("it has not returned from an earlier change yet")
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	done := make(chan error, 1)
	go func() { done <- sub.call(ctx, c.from, c.to) }()
	select {
	case err := <-done:
		cancel()
		sub.busy.Store(false)
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(lateGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		cancel()
		sub.busy.Store(false)
		return err
	case <-grace.C:
	}
	c.late.Go(func() {
		defer cancel()
		c.await(ctx, sub, done)
	})
	return fmt.Errorf("it has not returned %s after its deadline of %s", lateGrace, c.timeout)
}

// await waits for a call that was given up on. If it took the configuration
// after all, it is given back the former one.
func (c *change) await(ctx context.Context, sub *subscriber, done <-chan error) {
	defer sub.busy.Store(false)
	err := <-done
	_, half := errors.AsType[*panicked](err)
	c.log("a subscriber that was given up on has returned", "subscriber", sub.name, "error", err)
	if err != nil && !half {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	if err := sub.call(ctx, c.to, c.from); err != nil {
		c.log("a subscriber did not go back to the former configuration", "subscriber", sub.name, "error", err)
	}
}

func (b *subscriber) call(ctx context.Context, from, to content) error {
	return guard(func() error { return b.apply(ctx, b.part(from), b.part(to)) })
}

func (b *subscriber) differs(from, to content) (differs bool, err error) {
	err = guard(func() error {
		differs = !reflect.DeepEqual(b.part(from), b.part(to))
		return nil
	})
	return differs, err
}
