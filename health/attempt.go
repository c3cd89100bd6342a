package health

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// attempt is one call of a function that the program wrote: of a check or of
// an indicator.
type attempt struct {
	began  time.Time
	cancel context.CancelFunc
	// done is closed when there is a result, be it that the time is over.
	done  chan struct{}
	over  bool // done is closed
	stale bool // the result does not count
}

// asked is what becomes of an attempt. Both are called with Monitor.mu held.
type asked struct {
	// settle gets the one result, unless ctx has ended or it is stale.
	settle func(err error, took time.Duration)
	// returned comes first, when the function comes back: late if its time was
	// over and settle has been called.
	returned func(took time.Duration, late bool)
}

// begin calls f in a goroutine, with a context that ends after timeout. A call
// that ignores that is given up: it has failed, and holds its goroutine until
// it returns. m.mu is held.
func (m *Monitor) begin(ctx context.Context, timeout time.Duration, f func(context.Context) error, then asked) *attempt {
	callCtx, cancel := context.WithTimeout(ctx, timeout)
	a := &attempt{began: time.Now(), cancel: cancel, done: make(chan struct{})}
	m.active[a] = struct{}{}
	end := func(err error, took time.Duration) {
		if a.over {
			return
		}
		a.over = true
		close(a.done)
		delete(m.active, a)
		if ctx.Err() == nil && !a.stale {
			then.settle(err, took)
		}
	}
	unanswered := fmt.Errorf("no answer within %v", timeout)
	overdue := time.AfterFunc(timeout, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		end(unanswered, time.Since(a.began))
	})
	go func() {
		err := call(callCtx, f)
		overdue.Stop()
		cancel()
		m.mu.Lock()
		defer m.mu.Unlock()
		took := time.Since(a.began)
		then.returned(took, a.over)
		if errors.Is(err, context.DeadlineExceeded) && took >= timeout {
			err = unanswered
		}
		end(err, took)
	}()
	return a
}

func call(ctx context.Context, f func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v: %s", v, debug.Stack())
		}
	}()
	if err = f(ctx); err != nil {
		_ = err.Error() // a typed nil would panic where nothing recovers
	}
	return err
}
