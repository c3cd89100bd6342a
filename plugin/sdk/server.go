package sdk

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// server is the gRPC side of one plugin.
type server struct {
	pluginpb.UnimplementedPluginServer

	cfg  Config
	impl Plugin

	mu      sync.Mutex
	running map[int]context.CancelFunc
	next    int
	stopped bool
	idle    chan struct{} // closed once stopped and nothing runs
	grpc    *grpc.Server
	orphan  bool
	once    sync.Once
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
	if s.orphan {
		g.Stop() // the host died before there was a server: Serve returns at once
	}
	return g
}

// Info implements pluginpb.PluginServer.
func (s *server) Info(context.Context, *pluginpb.InfoRequest) (*pluginpb.InfoResponse, error) {
	return &pluginpb.InfoResponse{Name: s.cfg.Name, Version: s.cfg.Version, Capabilities: s.cfg.Capabilities}, nil
}

// Start implements pluginpb.PluginServer.
func (s *server) Start(ctx context.Context, in *pluginpb.StartRequest) (*pluginpb.StartResponse, error) {
	settings := in.GetSettings()
	if len(settings) == 0 {
		settings = nil
	}
	if err := s.impl.Start(ctx, settings); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return &pluginpb.StartResponse{}, nil
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
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	id, ok := s.enter(cancel)
	if !ok {
		return status.Error(codes.Aborted, "the plugin is stopping")
	}
	defer s.leave(id)
	task := Task{ID: in.GetId(), Capability: in.GetCapability(), Payload: in.GetPayload(), Cursor: in.GetCursor()}
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
		return status.Error(codes.Unknown, err.Error())
	}
	return nil
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

// abandon is what happens when the host has gone: stop, bounded, then end the
// server, which lets Serve return. An error of stop has no reader left.
func (s *server) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), orphanStopTimeout)
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
	s.orphan = true
	g := s.grpc
	s.mu.Unlock()
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
