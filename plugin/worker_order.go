package plugin

import (
	"context"
	"fmt"
)

// order is a request for a new generation; done has room for its outcome.
type order struct{ done chan error }

// outcome is err as it is told to who gave an order.
func (w *worker) outcome(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("plugin: %s was not restarted: %w", w.name, err)
}

// restart puts a new generation of what is in charge in its place. A start
// that is under way is one.
func (w *worker) restart(ctx context.Context, o order) {
	a, off := w.disabled.get(w.name)
	switch {
	case off:
		o.done <- fmt.Errorf("%w: %s, %s; enable it first", ErrDisabled, w.name, a)
		return
	case w.base == nil:
		o.done <- fmt.Errorf("%w: %s: %s", ErrNotRunning, w.name, w.snapshot().Reason)
		return
	case w.launch != nil:
	case w.current == nil:
		w.base, w.next = w.cfg.fresh(w.candidate().bundle), nil
		w.start(ctx)
	default:
		w.begin(ctx, w.cfg.fresh(w.base.bundle))
	}
	if w.launch == nil { // disabled a moment ago
		o.done <- fmt.Errorf("%w: %s: %s", ErrNotRunning, w.name, w.snapshot().Reason)
		return
	}
	w.launch.orders = append(w.launch.orders, o)
}

// toggle acts on a change of whether the plugin is disabled.
func (w *worker) toggle(ctx context.Context) {
	a, off := w.disabled.get(w.name)
	if !off {
		w.resume(ctx)
		return
	}
	w.abandon()
	w.retry.Stop()
	if i := w.current; i != nil {
		w.vacate()
		w.retire(i, w.cfg.DrainTimeout)
	}
	w.set(Disabled, a.String())
}

// resume starts a plugin that was disabled.
func (w *worker) resume(ctx context.Context) {
	if w.status.State != Disabled { // which only this goroutine changes
		return
	}
	b := w.last.bundle
	if b == nil && w.candidate() != nil {
		b = w.candidate().bundle
	}
	w.base, w.next = nil, nil
	w.set(Discovered, "")
	if b != nil {
		w.adopt(ctx, b)
	}
	if w.last.problem != nil {
		w.consider(ctx, w.last)
	}
}
