package collect

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/perennial-go/perennial/examples/internal/spool"
	"github.com/perennial-go/perennial/plugin"
)

// pending is how many results may wait for the spool; what waits is stored
// with one fsync.
const pending = 64

// pendingBytes bounds the payloads that are stored together.
const pendingBytes = 4 << 20

// once runs the plugin's task from the stream's mark until it ends, and says
// whether it stored anything. An error of the stream is a *storeError.
func (c *Collector) once(ctx context.Context, name string, payload []byte, to *spool.Stream) (stored bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	results := make(chan plugin.Result, pending)
	var executed error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(results)
		task := plugin.Task{
			ID:         fmt.Sprintf("collect-%s-%d", name, time.Now().UnixNano()),
			Capability: Capability,
			Payload:    payload,
			Cursor:     to.Mark(),
			Resumable:  true,
		}
		executed = c.Plugins.Execute(ctx, name, task, func(r plugin.Result) error {
			select {
			case results <- r:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	for first := range results {
		if err = c.store(name, to, gather(first, results)); err != nil {
			break
		}
		stored = true
	}
	cancel(err)
	for range results {
		// The stream is given up: what it still holds is read again from the
		// cursor.
	}
	wg.Wait()
	if err == nil {
		err = executed
	}
	return stored, err
}

// storeError is a failure to store, after which a stream is opened anew.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// gather adds to first what waits behind it.
func gather(first plugin.Result, more <-chan plugin.Result) []plugin.Result {
	group, size := []plugin.Result{first}, len(first.Payload)
	for size < pendingBytes {
		select {
		case r, ok := <-more:
			if !ok {
				return group
			}
			group, size = append(group, r), size+len(r.Payload)
		default:
			return group
		}
	}
	return group
}

// store makes the payloads and the last cursor durable, together. Payloads
// that no cursor follows are stored with the one before: the plugin may yield
// them again.
func (c *Collector) store(name string, to *spool.Stream, group []plugin.Result) error {
	var all spool.Batch
	cursor := to.Mark()
	for _, r := range group {
		batch, err := spool.Parse(r.Payload)
		if err != nil {
			// It will be no better the next time, and must not keep what
			// comes after it from being collected.
			c.Logger.Error("a result was dropped", "plugin", name, "bytes", len(r.Payload), "error", err)
		}
		all = all.Join(batch)
		if r.Cursor != "" {
			cursor = r.Cursor
		}
	}
	if all.Len() == 0 && cursor == to.Mark() {
		return nil
	}
	if err := to.Append(all, cursor); err != nil {
		return &storeError{err}
	}
	return nil
}
