package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
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
	apply func(ctx context.Context, old, new any) error // old is nil in the first call

	calling sync.Mutex  // held during apply
	has     atomic.Bool // a configuration: the first call was made and agreed
	busy    atomic.Bool // a call that was given up on has not returned
	gone    atomic.Bool
}

// subscribers are told one after the other, in the order in which they came.
type subscribers struct {
	mu    sync.Mutex
	list  []*subscriber
	now   content // in force
	ready bool    // now was published
	// freed tells that a call that was given up on has returned.
	freed chan struct{}
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
	l.now, l.ready = to, true
	publish()
	return nil
}

func (l *subscribers) current() content {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// hanging returns one that cannot be asked whether it takes the change, since
// it has not returned from an earlier one; nil = none.
func (c *change) hanging() *subscriber {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, sub := range c.list {
		if one := (&call{subscriber: sub, from: c.from, to: c.to}); sub.busy.Load() && !one.needless() {
			return sub
		}
	}
	return nil
}

// errHanging is why one that hangs refuses.
var errHanging = errors.New("it has not returned from an earlier change yet")

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
	before   func()        // before the first call
	log      *slog.Logger
}

// run tells all whose part differs, then publishes. If one refuses, those that
// have taken the new configuration are given the former one again, the last
// first, and nothing is published.
func (c *change) run(ctx context.Context, publish func()) error {
	if sub := c.hanging(); sub != nil {
		return &refusal{subscriber: sub.name, err: errHanging}
	}
	told := map[*subscriber]bool{}
	var taken []*call
	for {
		sub := c.next(told, c.to, publish)
		if sub == nil {
			return nil
		}
		told[sub] = true
		asked := &call{subscriber: sub, from: c.from, to: c.to}
		err := c.tell(ctx, asked)
		if err == nil {
			taken = append(taken, asked)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err() // the program ends: there is nothing to go back to
		}
		if _, half := errors.AsType[*panicked](err); half {
			taken = append(taken, asked) // how far it got is not known
		}
		return c.undo(ctx, taken, &refusal{subscriber: sub.name, err: err})
	}
}

func (c *change) undo(ctx context.Context, taken []*call, why *refusal) error {
	for _, one := range slices.Backward(taken) {
		back := one.back()
		if back == nil {
			continue
		}
		if err := c.tell(ctx, back); err != nil {
			why.err = fmt.Errorf("%w; and %s did not go back to the former configuration: %w", why.err, back.name, err)
		}
	}
	return why
}

// tell makes a call, and gives up on it when its time is over.
func (c *change) tell(ctx context.Context, one *call) error {
	if one.needless() {
		return nil
	}
	if !one.busy.CompareAndSwap(false, true) {
		return errHanging
	}
	c.before()
	within, cancel := context.WithTimeout(ctx, c.timeout)
	done := make(chan error, 1)
	go func() { done <- one.make(within) }()
	select {
	case err := <-done:
		cancel()
		one.busy.Store(false)
		return err
	case <-within.Done():
	}
	grace := time.NewTimer(lateGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		cancel()
		one.busy.Store(false)
		return err
	case <-grace.C:
	}
	cancel()
	go c.await(ctx, one, done) // outlives Run, should it never return
	return fmt.Errorf("it has not returned %s after its deadline of %s", lateGrace, c.timeout)
}

// await waits for a call that was given up on. If it took the configuration
// after all, it is given back the former one, unless ctx, Run's, has ended.
func (c *change) await(ctx context.Context, one *call, done <-chan error) {
	defer func() {
		one.busy.Store(false)
		select {
		case c.freed <- struct{}{}:
		default: // told already, or nobody listens
		}
	}()
	err := <-done
	_, half := errors.AsType[*panicked](err)
	c.log.Warn("a subscriber that was given up on has returned", "name", one.name, "error", err)
	if err != nil && !half {
		return
	}
	back := one.back()
	if back == nil || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := back.make(ctx); err != nil {
		c.log.Warn("a subscriber did not go back to the former configuration", "name", one.name, "error", err)
	}
}

// call is one call of a subscriber.
type call struct {
	*subscriber
	from, to content
	first    bool // there was nothing before: set by make
	made     bool
}

// needless reports that the part is the same. Where that cannot be told, the
// call will say why.
func (c *call) needless() (same bool) {
	if !c.has.Load() {
		return false
	}
	err := guard(func() error {
		same = reflect.DeepEqual(c.part(c.from), c.part(c.to))
		return nil
	})
	return same && err == nil
}

// make calls the subscriber, after an earlier call by Sub has returned.
func (c *call) make(ctx context.Context) error {
	c.calling.Lock()
	defer c.calling.Unlock()
	if c.needless() {
		return nil
	}
	c.made, c.first = true, !c.has.Load()
	err := guard(func() error {
		var old any
		if !c.first {
			old = c.part(c.from)
		}
		return c.apply(ctx, old, c.part(c.to))
	})
	if err == nil {
		c.has.Store(true)
	}
	return err
}

// back is the call that takes this one back; nil = there is none to make. Who
// had nothing before is told the next configuration as the first.
func (c *call) back() *call {
	switch {
	case !c.made:
		return nil
	case c.first:
		c.has.Store(false)
		return nil
	}
	return &call{subscriber: c.subscriber, from: c.to, to: c.from}
}
