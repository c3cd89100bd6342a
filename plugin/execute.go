package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// Execute runs task on the plugin name and hands every result to deliver, in
// order and from this goroutine; a slow deliver slows the plugin down. It
// returns nil when the plugin says that the task is done.
//
// Errors: ErrNotFound; ErrNotRunning, when there is no process at the moment,
// with ErrDisabled where an operator wants none;
// ErrInterrupted, when the process was replaced, stopped or died, after which
// the caller executes again from its last cursor; ctx's error, whose deadline
// the plugin knows; deliver's error, unchanged; ErrPermanent, when the plugin
// says so; anything else is the plugin's own.
//
// Delivery is at least once: a result that was delivered and whose cursor was
// not kept comes again.
func (m *Manager) Execute(ctx context.Context, name string, task Task, deliver func(Result) error) (err error) {
	ctx, span := m.trace(ctx, name, task)
	defer func() { span.End(err) }()
	m.mu.Lock()
	w := m.workers[name]
	m.mu.Unlock()
	if w == nil {
		return fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	return w.calls.around(ctx, func() (reached bool, err error) { return w.execute(ctx, span, task, deliver) })
}

// execute has the instance in charge run task. Where there is none that can,
// the plugin is not reached.
func (w *worker) execute(ctx context.Context, span tracing.Span, task Task, deliver func(Result) error) (reached bool, err error) {
	i := w.acquire(task.Resumable)
	if i == nil {
		s := w.snapshot()
		if s.State == Disabled {
			return false, fmt.Errorf("%w: %s: %w: %s", ErrNotRunning, w.name, ErrDisabled, s.Reason)
		}
		return false, fmt.Errorf("%w: %s is %s: %s", ErrNotRunning, w.name, s.State, s.Reason)
	}
	defer i.leave(task.Resumable)
	if has := i.bundle.manifest.Capabilities; !slices.Contains(has, task.Capability) {
		return false, fmt.Errorf("plugin %s %s: capability: wanted %q, found %q", w.name, i.bundle.manifest.Version, task.Capability, has)
	}
	if span.Recording() {
		span.Set(attribute.String(tracing.PluginVersion, i.bundle.manifest.Version))
	}
	err = i.execute(ctx, task, deliver)
	if _, own := errors.AsType[*taskError](err); own {
		w.count(err.Error())
	}
	return true, err
}

// taskError is an error that the plugin itself reported.
type taskError struct {
	plugin, task string
	err          error
}

func (e *taskError) Error() string {
	return fmt.Sprintf("plugin %s: task %q: %v", e.plugin, e.task, e.err)
}

func (e *taskError) Unwrap() error { return e.err }

func (i *instance) execute(ctx context.Context, task Task, deliver func(Result) error) error {
	call, cancel := context.WithCancel(carry(ctx))
	defer cancel()
	until := i.ctx
	if task.Resumable {
		until = i.brief
	}
	defer context.AfterFunc(until, cancel)()
	stream, err := i.link.rpc.Execute(call, &pluginpb.Task{
		Id: task.ID, Capability: task.Capability, Payload: task.Payload, Cursor: task.Cursor,
		Attempt: uint32(min(max(task.Attempt, 0), math.MaxInt32)), IdempotencyKey: task.IdempotencyKey,
	})
	if err != nil {
		return i.failed(ctx, task, err)
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return i.failed(ctx, task, err)
		}
		if err := deliver(Result{Payload: r.GetPayload(), Cursor: r.GetCursor()}); err != nil {
			return err
		}
	}
}

// failed says why a stream ended other than by the end of its task.
func (i *instance) failed(ctx context.Context, task Task, err error) error {
	name := i.bundle.manifest.Name
	switch code := status.Code(err); {
	case ctx.Err() != nil:
		return ctx.Err()
	case code == codes.Aborted, i.ctx.Err() != nil, task.Resumable && i.brief.Err() != nil:
		return fmt.Errorf("%w: plugin %s %s was replaced or stopped", ErrInterrupted, name, i.bundle.manifest.Version)
	case code == codes.Unavailable, code == codes.Canceled:
		// The connection broke; that the process has ended may not have been
		// noticed yet.
		return fmt.Errorf("%w: plugin %s %s ended: %v", ErrInterrupted, name, i.bundle.manifest.Version, plain(err)) //nolint:errorlint // gRPC's error is no part of the interface
	}
	told := plain(err)
	if status.Code(err) == codes.InvalidArgument {
		told = fmt.Errorf("%w: %w", told, ErrPermanent)
	}
	return &taskError{plugin: name, task: task.ID, err: told}
}
