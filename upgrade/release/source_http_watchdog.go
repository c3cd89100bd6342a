package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

var errStalled = errors.New("stalled")

// watchdog ends a connection that delivers less than window bytes in each
// limit of time spent waiting for it. Time in which the caller does other
// things (a slow disk) does not count. It is not safe for concurrent use.
type watchdog struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer

	limit  time.Duration
	window int64

	left  time.Duration
	bytes int64
}

// newWatchdog returns the context that the connection must be made with.
func newWatchdog(parent context.Context, limit time.Duration, window int64) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &watchdog{ctx: ctx, cancel: cancel, limit: limit, window: window, left: limit}
	w.timer = time.AfterFunc(limit, func() { cancel(errStalled) })
	w.timer.Stop()
	return ctx, w
}

// read reads from the connection within the time that is left.
func (w *watchdog) read(r io.Reader, p []byte) (n int, err error) {
	err = w.during(func() (err error) {
		n, err = r.Read(p)
		return err
	})
	if w.bytes += int64(n); w.bytes >= w.window {
		w.bytes, w.left = 0, w.limit
	}
	return n, err
}

func (w *watchdog) during(f func() error) error {
	start := time.Now()
	w.timer.Reset(w.left)
	err := f()
	w.timer.Stop()
	w.left -= time.Since(start)
	if err != nil && errors.Is(context.Cause(w.ctx), errStalled) {
		return fmt.Errorf("%w: fewer than %d bytes came in %v", errStalled, w.window, w.limit)
	}
	return err
}

// stop frees the connection's context.
func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}
