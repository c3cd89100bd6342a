package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// host is a connection to the plugin, as a host has one.
type host struct {
	subject *subject
	conn    *grpc.ClientConn
	rpc     pluginpb.PluginClient

	mu  sync.Mutex
	raw []net.Conn
}

// connect makes a host, which leaves at the end of the check.
func (p *subject) connect(tb testing.TB) *host {
	tb.Helper()
	h := &host{subject: p}
	conn, err := grpc.NewClient("passthrough:///plugin",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(h.dial),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(pluginpb.MaxMessageBytes),
			grpc.MaxCallSendMsgSize(pluginpb.MaxMessageBytes),
		))
	if err != nil {
		tb.Fatal(err)
	}
	h.conn, h.rpc = conn, pluginpb.NewPluginClient(conn)
	tb.Cleanup(func() { _ = conn.Close() })
	return h
}

func (h *host) dial(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", h.subject.address)
	if err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.raw = append(h.raw, conn)
	}
	return conn, err
}

// die ends the connection as the death of a host does: with no farewell.
func (h *host) die() {
	h.mu.Lock()
	for _, conn := range h.raw {
		_ = conn.Close()
	}
	h.mu.Unlock()
	_ = h.conn.Close()
}

// soon is a context for what must be answered.
func (h *host) soon(tb testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(tb.Context(), h.subject.suite.limits.answer)
}

// adopt does what a host does with a new process: Info, Attach, Start, Health.
func (h *host) adopt(tb testing.TB) *attachment {
	tb.Helper()
	h.info(tb)
	a := h.attach(tb)
	if err := h.start(tb, h.subject.suite.settings); err != nil {
		tb.Fatalf("Start with the manifest's settings %s: %v", h.subject.suite.settings, err)
	}
	h.mustBeWell(tb, "after Start")
	return a
}

// attachment is an Attach stream that is held open.
type attachment struct {
	started bool
	leave   context.CancelFunc
	ended   chan error
}

func (h *host) attach(tb testing.TB) *attachment {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	tb.Cleanup(cancel)
	// The limit is on the first message alone.
	late := time.AfterFunc(h.subject.suite.limits.answer, cancel)
	stream, err := h.rpc.Attach(ctx, &pluginpb.AttachRequest{HostVersion: "1.0.0"})
	if err != nil {
		tb.Fatalf("Attach: %v", err)
	}
	first, err := stream.Recv()
	if !late.Stop() {
		tb.Fatalf("Attach: no message within %s; the first is sent at once, before Start too", h.subject.suite.limits.answer)
	}
	if err != nil {
		tb.Fatalf("Attach: want a message at once, found %v", err)
	}
	a := &attachment{started: first.GetStarted(), leave: cancel, ended: make(chan error, 1)}
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				a.ended <- err
				return
			}
		}
	}()
	return a
}

// mustHold fails the check if the plugin has ended the stream.
func (a *attachment) mustHold(tb testing.TB, when string) {
	tb.Helper()
	select {
	case err := <-a.ended:
		a.ended <- err
		tb.Fatalf("%s the plugin had ended the Attach stream (%v); it is the host's to end", when, err)
	default:
	}
}

func (h *host) start(tb testing.TB, settings []byte) error {
	tb.Helper()
	ctx, cancel := h.soon(tb)
	defer cancel()
	_, err := h.rpc.Start(ctx, &pluginpb.StartRequest{Settings: settings})
	return err
}

func (h *host) info(tb testing.TB) *pluginpb.InfoResponse {
	tb.Helper()
	ctx, cancel := h.soon(tb)
	defer cancel()
	info, err := h.rpc.Info(ctx, &pluginpb.InfoRequest{})
	if err != nil {
		tb.Fatalf("Info: %v", err)
	}
	return info
}

// health asks once. It may be used from any goroutine.
func (h *host) health(tb testing.TB) error {
	ctx, cancel := h.soon(tb)
	defer cancel()
	begun := time.Now()
	answer, err := h.rpc.Health(ctx, &pluginpb.HealthRequest{})
	if err != nil {
		return fmt.Errorf("Health gave no answer in %s: %w", time.Since(begun).Round(time.Millisecond), err)
	}
	if answer.GetProblem() != "" {
		return fmt.Errorf("Health reports a problem: %s", answer.GetProblem())
	}
	return nil
}

func (h *host) mustBeWell(tb testing.TB, when string) {
	tb.Helper()
	if err := h.health(tb); err != nil {
		tb.Fatalf("%s: %v", when, err)
	}
}

func message(task plugin.Task) *pluginpb.Task {
	return &pluginpb.Task{
		Id: "plugintest", Capability: task.Capability, Payload: task.Payload, Cursor: task.Cursor,
		Attempt: uint32(max(task.Attempt, 0)), IdempotencyKey: task.IdempotencyKey, //nolint:gosec // a small count
	}
}

// given skips the check if the task that it needs is not known.
func given(tb testing.TB, task plugin.Task, field string) {
	tb.Helper()
	if task.Capability == "" {
		tb.Skipf("not checked: it needs Config.%s", field)
	}
}

// run is a task that runs.
type run struct {
	host   *host
	stream grpc.ServerStreamingClient[pluginpb.Result]
	cancel context.CancelFunc
}

// execute begins a task, which is cancelled at the end of the check at the
// latest.
func (h *host) execute(tb testing.TB, task plugin.Task) *run {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	tb.Cleanup(cancel)
	stream, err := h.rpc.Execute(ctx, message(task))
	if err != nil {
		tb.Fatalf("Execute of %s: %v", task.Capability, err)
	}
	return &run{host: h, stream: stream, cancel: cancel}
}

// next waits for one result.
func (r *run) next(tb testing.TB, which string) *pluginpb.Result {
	tb.Helper()
	late := time.AfterFunc(r.host.subject.suite.limits.answer, r.cancel)
	result, err := r.stream.Recv()
	if !late.Stop() {
		tb.Fatalf("%s did not come within %s", which, r.host.subject.suite.limits.answer)
	}
	if err != nil {
		tb.Fatalf("%s did not come: %v", which, err)
	}
	return result
}

// rest takes what is left and returns how many results that were and how the
// task ended: nil if it is done.
func (r *run) rest(tb testing.TB, why string) (n int, err error) {
	tb.Helper()
	late := time.AfterFunc(r.host.subject.suite.limits.answer, r.cancel)
	for err == nil {
		if _, err = r.stream.Recv(); err == nil {
			n++
		}
	}
	if !late.Stop() {
		tb.Fatalf("the task has not ended within %s %s", r.host.subject.suite.limits.answer, why)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// mustBe fails the check unless err has that code.
func mustBe(tb testing.TB, what string, err error, want codes.Code) {
	tb.Helper()
	if got := status.Code(err); got != want {
		tb.Fatalf("%s: want the code %s, found %s (%v)", what, want, got, err)
	}
}
