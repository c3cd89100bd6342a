package sdk

import (
	"context"
	"errors"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// server is the gRPC side of one plugin.
type server struct {
	pluginpb.UnimplementedPluginServer

	cfg   Config
	impl  Plugin
	hosts *hosts

	mu      sync.Mutex
	running map[int]context.CancelFunc
	next    int
	stopped bool
	idle    chan struct{} // closed once stopped and nothing runs
	grpc    *grpc.Server
	ended   bool // the server is to serve no longer
	orphan  bool // because there is no host
	told    bool // to start
	begun   bool // Start has succeeded
	once    sync.Once
	family  sync.Once
	stopErr error
}

func newServer(cfg Config, impl Plugin) *server {
	cfg.Capabilities = slices.Clone(cfg.Capabilities)
	return &server{cfg: cfg, impl: impl, running: map[int]context.CancelFunc{}, idle: make(chan struct{})}
}

func (s *server) grpcServer(opts []grpc.ServerOption) *grpc.Server {
	g := grpc.NewServer(append(opts,
		grpc.MaxRecvMsgSize(pluginpb.MaxMessageBytes),
		grpc.MaxSendMsgSize(pluginpb.MaxMessageBytes))...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grpc = g
	if s.ended {
		g.Stop() // before there was a server: Serve returns at once
	}
	return g
}

// Info implements pluginpb.PluginServer.
func (s *server) Info(context.Context, *pluginpb.InfoRequest) (*pluginpb.InfoResponse, error) {
	return &pluginpb.InfoResponse{Name: s.cfg.Name, Version: s.cfg.Version, Capabilities: s.cfg.Capabilities}, nil
}

// Start implements pluginpb.PluginServer.
func (s *server) Start(ctx context.Context, in *pluginpb.StartRequest) (*pluginpb.StartResponse, error) {
	s.mu.Lock()
	again := s.told
	s.told = true
	s.mu.Unlock()
	if again {
		return nil, status.Error(codes.FailedPrecondition, "the plugin was told to start before")
	}
	settings := in.GetSettings()
	if len(settings) == 0 {
		settings = nil
	}
	if err := s.impl.Start(ctx, settings); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	s.mu.Lock()
	s.begun = true
	s.mu.Unlock()
	return &pluginpb.StartResponse{}, nil
}

// Attach implements pluginpb.PluginServer.
func (s *server) Attach(_ *pluginpb.AttachRequest, stream grpc.ServerStreamingServer[pluginpb.AttachResponse]) error {
	if !s.hosts.attach() {
		return status.Error(codes.Unavailable, "the plugin ends, no host was attached for too long")
	}
	defer s.hosts.detach()
	s.mu.Lock()
	begun := s.begun
	s.mu.Unlock()
	if err := stream.Send(&pluginpb.AttachResponse{Started: begun}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// Health implements pluginpb.PluginServer.
func (s *server) Health(ctx context.Context, _ *pluginpb.HealthRequest) (*pluginpb.HealthResponse, error) {
	if err := s.impl.Health(ctx); err != nil {
		return &pluginpb.HealthResponse{Problem: err.Error()}, nil //nolint:nilerr // it is the answer
	}
	return &pluginpb.HealthResponse{}, nil
}

// Execute implements pluginpb.PluginServer.
func (s *server) Execute(in *pluginpb.Task, stream grpc.ServerStreamingServer[pluginpb.Result]) error {
	if !slices.Contains(s.cfg.Capabilities, in.GetCapability()) {
		return status.Errorf(codes.Unimplemented, "capability %q: this plugin has %q", in.GetCapability(), s.cfg.Capabilities)
	}
	ctx, cancel := context.WithCancel(traced(stream.Context()))
	defer cancel()
	id, ok := s.enter(cancel)
	if !ok {
		return status.Error(codes.Aborted, "the plugin is stopping")
	}
	defer s.leave(id)
	task := Task{
		ID: in.GetId(), Capability: in.GetCapability(), Payload: in.GetPayload(), Cursor: in.GetCursor(),
		Attempt: int(in.GetAttempt()), IdempotencyKey: in.GetIdempotencyKey(),
	}
	err := s.impl.Execute(ctx, task, func(r Result) error {
		return stream.Send(&pluginpb.Result{Payload: r.Payload, Cursor: r.Cursor})
	})
	switch {
	case s.stopping():
		// Whether the task was complete cannot be told from the outside any
		// more; the host resumes it at its last cursor.
		return status.Error(codes.Aborted, "the plugin was stopped while the task ran")
	case stream.Context().Err() != nil:
		return status.FromContextError(stream.Context().Err()).Err()
	case err != nil:
		code := codes.Unknown
		if _, permanent := errors.AsType[*permanentError](err); permanent {
			code = codes.InvalidArgument
		}
		return status.Error(code, err.Error())
	}
	return nil
}

// traced returns ctx with the span that the host has told the call is below.
func traced(ctx context.Context) context.Context {
	if told := metadata.ValueFromIncomingContext(ctx, tracing.Header); len(told) == 1 {
		return tracing.Join(ctx, told[0])
	}
	return ctx
}

// Stop implements pluginpb.PluginServer.
func (s *server) Stop(ctx context.Context, _ *pluginpb.StopRequest) (*pluginpb.StopResponse, error) {
	if err := s.stop(ctx); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &pluginpb.StopResponse{}, nil
}

// stop ends the tasks, waits for them as long as ctx allows, and stops the
// implementation, once.
func (s *server) stop(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopped
	s.stopped = true
	for _, cancel := range s.running {
		cancel()
	}
	if first && len(s.running) == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
	select {
	case <-s.idle:
	case <-ctx.Done():
	}
	s.once.Do(func() { s.stopErr = s.impl.Stop(ctx) })
	return s.stopErr
}

// abandon is what happens when there is no host any more.
func (s *server) abandon() {
	s.mu.Lock()
	s.orphan = true
	s.mu.Unlock()
	s.end()
}

// end stops, bounded, and ends the server, which lets Serve return. An error
// of stop has no reader.
func (s *server) end() {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.stop(ctx)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.ended = true
	g, orphan := s.grpc, s.orphan
	s.mu.Unlock()
	if orphan {
		s.family.Do(endFamily)
	}
	if g != nil {
		g.Stop()
	}
}

func (s *server) orphaned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.orphan
}

func (s *server) enter(cancel context.CancelFunc) (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return 0, false
	}
	s.next++
	s.running[s.next] = cancel
	return s.next, true
}

func (s *server) leave(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, id)
	if s.stopped && len(s.running) == 0 {
		close(s.idle)
	}
}

func (s *server) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}
