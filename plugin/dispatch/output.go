package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/plugin"
)

// Bounds of the results that wait while others are written; a single one may be
// larger.
const (
	outputResults = 100
	outputBytes   = 256 << 10
)

// output writes what one call of a plugin yields, in its order: what comes
// while a transaction is under way goes into the next one. The run's own last
// and from are of what is written.
type output struct {
	run  *run
	work context.Context //nolint:containedctx // of the call, as long as the output
	wake chan struct{}   // there is something to write, or the end
	room chan struct{}   // there is room for more

	// last and from are of what was taken; of the goroutine that take is called by.
	last, from resume

	mu     sync.Mutex
	wait   []yielded
	bytes  int
	ended  bool
	failed error
}

// yielded is a result to be written, and how far the run is with it.
type yielded struct {
	key, value string
	last, from resume
}

func newOutput(r *run, work context.Context) *output {
	return &output{run: r, work: work, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), last: r.last, from: r.from}
}

// take has a result written. It waits where too many are waiting already.
func (o *output) take(result plugin.Result) error {
	cfg := &o.run.worker.cfg
	if len(result.Cursor) > MaxCursor {
		return fmt.Errorf("%w: result with a cursor of %d bytes, at most %d", plugin.ErrPermanent, len(result.Cursor), MaxCursor)
	}
	v := resultValue{Schema: schema, Attempt: o.run.assignment.Attempt, Payload: result.Payload, Cursor: result.Cursor, At: now()}
	next := o.last
	if n := len(v.Payload); n > cfg.ResultBytes {
		v.Payload, v.Bytes, next.Cut = v.Payload[:cfg.ResultBytes], int64(n), true
	}
	if next.Number >= MaxResults || next.Bytes+int64(len(v.Payload)) > cfg.ResultsBytes {
		// The task goes on without them.
		o.last.Cut, o.from.Cut = true, true
		if result.Cursor != "" {
			o.from.Cursor = result.Cursor
			o.from.Number, o.from.Bytes = o.last.Number, o.last.Bytes
		}
		return nil
	}
	next.Number++
	next.Bytes += int64(len(v.Payload))
	from := o.from
	if result.Cursor != "" {
		next.Cursor = result.Cursor
		from = next
	}
	v.Resume = from
	value, err := encode(v)
	if err != nil {
		return err
	}
	key := o.run.worker.keys.result(cfg.AgentID, o.run.id, next.Number)
	if err := o.add(yielded{key, value, next, from}); err != nil {
		return err
	}
	o.last, o.from = next, from
	return nil
}

func (o *output) add(y yielded) error {
	for {
		o.mu.Lock()
		err := o.failed
		fits := len(o.wait) == 0 || len(o.wait) < outputResults && o.bytes+len(y.value) <= outputBytes
		if err == nil && fits {
			o.wait = append(o.wait, y)
			o.bytes += len(y.value)
		}
		o.mu.Unlock()
		if err != nil || fits {
			ring(o.wake)
			return err
		}
		select {
		case <-o.room:
		case <-o.work.Done():
			return context.Cause(o.work)
		}
	}
}

// end tells that no more results come.
func (o *output) end() {
	o.mu.Lock()
	o.ended = true
	o.mu.Unlock()
	ring(o.wake)
}

// write writes results until the last one, or until one cannot be written.
func (o *output) write(ctx context.Context) {
	for {
		o.mu.Lock()
		batch, ended := o.wait, o.ended
		o.wait, o.bytes = nil, 0
		o.mu.Unlock()
		ring(o.room)
		switch {
		case len(batch) > 0:
			if err := o.put(ctx, batch); err != nil {
				o.mu.Lock()
				o.failed = err
				o.mu.Unlock()
				ring(o.room)
				return
			}
		case ended:
			return
		default:
			<-o.wake
		}
	}
}

func (o *output) put(ctx context.Context, batch []yielded) error {
	r := o.run
	c := r.fence()
	for _, y := range batch {
		c.put(y.key, y.value)
	}
	retry := backoff.Backoff{Max: 2 * time.Second}
	for {
		_, err := r.worker.pool.do(ctx, c)
		if err == nil {
			end := batch[len(batch)-1]
			r.last, r.from = end.last, end.from
			return failpoint.Hit("dispatch-result")
		}
		if errors.Is(err, errRefused) || retry.Wait(o.work) != nil {
			return err
		}
	}
}
