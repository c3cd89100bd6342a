package upgrade

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/perennial-go/perennial/internal/waittest"
)

// rpc is a gRPC service with one call and one stream.
type rpc struct {
	ask    func(ctx context.Context) error
	follow func(grpc.ServerStream) error
}

func (s *rpc) desc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "test", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Ask", Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := new(emptypb.Empty)
			if err := decode(in); err != nil {
				return nil, err
			}
			handle := func(ctx context.Context, _ any) (any, error) { return new(emptypb.Empty), s.ask(ctx) }
			if intercept == nil {
				return handle(ctx, in)
			}
			return intercept(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/test/Ask"}, handle)
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Follow", ServerStreams: true, ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			return s.follow(stream)
		}}},
	}
}

// interceptors call g.Call as package agent's do.
func interceptors(g *GRPCServer) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			ctx, ended := g.Call(ctx, false)
			defer ended()
			return handle(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			ctx, ended := g.Call(stream.Context(), true)
			defer ended()
			return handle(srv, told{stream, ctx})
		}),
	}
}

type told struct {
	grpc.ServerStream
	ctx context.Context
}

func (s told) Context() context.Context { return s.ctx }

// start serves s on ln with g.
func (s *rpc) start(g *GRPCServer, ln net.Listener, served chan<- error, options ...grpc.ServerOption) *grpc.Server {
	srv := grpc.NewServer(options...)
	srv.RegisterService(s.desc(), s)
	go func() { served <- g.Serve(ln, srv) }()
	return srv
}

// begin serves s, counting its calls or not, and returns a client.
func (s *rpc) begin(tb testing.TB, counted bool) (*GRPCServer, *grpc.ClientConn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	g := NewGRPCServer()
	var options []grpc.ServerOption
	if counted {
		options = interceptors(g)
	}
	served := make(chan error, 1)
	s.start(g, ln, served, options...)
	tb.Cleanup(func() {
		_ = g.Drain(context.Background(), Drain{Tail: 1, Idle: 1, Timeout: 1})
		if err := waittest.Next(tb, "Serve returns", served); err != nil {
			tb.Errorf("Serve ended with %v in a drain", err)
		}
	})
	return g, dial(tb, ln.Addr().String())
}

func dial(tb testing.TB, addr string) *grpc.ClientConn {
	tb.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

func call(conn *grpc.ClientConn) error {
	return conn.Invoke(context.Background(), "/test/Ask", new(emptypb.Empty), new(emptypb.Empty))
}

func stream(tb testing.TB, conn *grpc.ClientConn) grpc.ClientStream {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(cancel)
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test/Follow")
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestGRPCCallsUnderLoadSurviveDrains(t *testing.T) {
	s := newSocket(t)
	addr := s.Addr().String()
	start := func(ln net.Listener, gen *generation) {
		g := NewGRPCServer()
		gen.drain = g.Drain
		service := &rpc{ask: func(context.Context) error { gen.answered.Add(1); return nil }}
		service.start(g, ln, gen.served, interceptors(g)...)
	}
	var clients []func() error
	for range 6 {
		kept := dial(t, addr)
		clients = append(clients, func() error { return call(kept) })
	}
	for range 6 {
		clients = append(clients, func() error {
			conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return err
			}
			return errors.Join(call(conn), conn.Close())
		})
	}
	n := s.succeed(Drain{}, start, clients...)
	t.Logf("%d calls in %d drains", n, swaps+1)
}

func TestGRPCCallInProgressIsAnsweredInADrain(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	service := &rpc{ask: func(context.Context) error { close(entered); <-release; return nil }}
	g, conn := service.begin(t, true)
	answer := make(chan error, 1)
	go func() { answer <- call(conn) }()
	waittest.Next(t, "the call is there", entered)
	// The time of streams is no concern of a call.
	done := drain(g, Drain{Tail: 1, Idle: 1, Streams: 1, Timeout: long})
	waittest.Next(t, "the drain begins", g.draining.ch)
	select {
	case err := <-done:
		t.Fatalf("drained, %v, with a call in progress", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := waittest.Next(t, "the answer comes", answer); err != nil {
		t.Error(err)
	}
	if err := waittest.Next(t, "the drain ends", done); err != nil {
		t.Error(err)
	}
}

func TestGRPCStreamIsToldAndSaysGoodbye(t *testing.T) {
	service := &rpc{follow: func(s grpc.ServerStream) error {
		if err := s.SendMsg(new(emptypb.Empty)); err != nil {
			return err
		}
		<-Draining(s.Context())
		return status.Error(codes.Unavailable, "come back")
	}}
	g, conn := service.begin(t, true)
	s := stream(t, conn)
	if err := s.RecvMsg(new(emptypb.Empty)); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the drain ends", drain(g, Drain{Tail: 1, Idle: 1, Streams: long, Timeout: long})); err != nil {
		t.Error(err)
	}
	if err := s.RecvMsg(new(emptypb.Empty)); status.Convert(err).Message() != "come back" {
		t.Errorf("the stream ended with %v, want what its handler said", err)
	}
}

func TestGRPCStreamThatDoesNotEndIsClosed(t *testing.T) {
	wait := func(s grpc.ServerStream) error { <-s.Context().Done(); return s.Context().Err() }
	receive := func(s grpc.ServerStream) error { return s.RecvMsg(new(emptypb.Empty)) }
	send := func(s grpc.ServerStream) error {
		for {
			if err := s.SendMsg(&emptypb.Empty{}); err != nil {
				return err
			}
		}
	}
	release := make(chan struct{})
	stuck := func(grpc.ServerStream) error { <-release; return nil }
	defer close(release)
	byStreams := Drain{Tail: 1, Idle: 1, Streams: 50 * time.Millisecond, Timeout: long}
	byTimeout := Drain{Tail: 1, Idle: 1, Streams: long, Timeout: 50 * time.Millisecond}
	for name, c := range map[string]struct {
		follow  func(grpc.ServerStream) error
		counted bool
		d       Drain
		want    string
	}{
		"waiting, after Streams":   {wait, true, byStreams, "1 gRPC stream"},
		"waiting, at Timeout":      {wait, true, byTimeout, "1 gRPC stream"},
		"receiving":                {receive, true, byStreams, "1 gRPC stream"},
		"client that never reads":  {send, true, byStreams, "1 gRPC stream"},
		"handler that is stuck":    {stuck, true, byStreams, "1 gRPC stream"},
		"not counted, at Timeout":  {wait, false, Drain{Tail: 1, Idle: 1, Streams: 1, Timeout: 50 * time.Millisecond}, "1 gRPC connection"},
		"not counted, it is stuck": {stuck, false, byTimeout, "1 gRPC connection"},
	} {
		t.Run(name, func(t *testing.T) {
			entered := make(chan struct{})
			service := &rpc{follow: func(s grpc.ServerStream) error { close(entered); return c.follow(s) }}
			g, conn := service.begin(t, c.counted)
			s := stream(t, conn)
			waittest.Next(t, "the stream is open", entered)
			err := waittest.Next(t, "the drain ends", drain(g, c.d))
			if !errors.Is(err, ErrCutOff) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("drain: %v, want %s cut off", err, c.want)
			}
			for err = nil; err == nil; {
				err = s.RecvMsg(new(emptypb.Empty))
			}
			if errors.Is(err, io.EOF) {
				t.Error("the client takes the cut for the stream's end")
			}
		})
	}
}

// When only a stream is left it is closed, but not before the last answer has
// been sent.
func TestGRPCAnswerIsNotLostWithTheStreamsBesideIt(t *testing.T) {
	for range 5 {
		entered, opened, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
		service := &rpc{
			ask:    func(context.Context) error { close(entered); <-release; return nil },
			follow: func(s grpc.ServerStream) error { close(opened); <-s.Context().Done(); return s.Context().Err() },
		}
		g, conn := service.begin(t, true)
		stream(t, conn)
		waittest.Next(t, "the stream is open", opened)
		answer := make(chan error, 1)
		go func() { answer <- call(conn) }()
		waittest.Next(t, "the call is there", entered)
		done := drain(g, Drain{Tail: 50 * time.Millisecond, Idle: 1, Streams: 1, Timeout: long})
		<-time.After(100 * time.Millisecond) // the call is most likely all that is waited for
		close(release)
		if err := waittest.Next(t, "the answer comes", answer); err != nil {
			t.Error(err)
		}
		if err := waittest.Next(t, "the drain ends", done); !errors.Is(err, ErrCutOff) || !strings.Contains(err.Error(), "1 gRPC stream") {
			t.Errorf("drain: %v, want one stream cut off", err)
		}
	}
}

func TestStuckGRPCCallIsCutOffAtTimeout(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	service := &rpc{ask: func(context.Context) error { close(entered); <-release; return nil }}
	g, conn := service.begin(t, true)
	answer := make(chan error, 1)
	go func() { answer <- call(conn) }()
	waittest.Next(t, "the call is there", entered)
	err := waittest.Next(t, "the drain ends", drain(g, Drain{Tail: 1, Idle: 1, Timeout: 50 * time.Millisecond}))
	if !errors.Is(err, ErrCutOff) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 gRPC call") {
		t.Errorf("drain: %v, want one call cut off", err)
	}
	if err := waittest.Next(t, "the client is told", answer); status.Code(err) != codes.Unavailable {
		t.Errorf("the call ended with %v", err)
	}
}

// Both GracefulStop and Stop wait for a handshake, for two minutes.
func TestSilentClientDoesNotKeepAGRPCServer(t *testing.T) {
	service := &rpc{ask: func(context.Context) error { return nil }}
	g, conn := service.begin(t, true)
	silent, err := net.Dial("tcp", conn.Target())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	waittest.Until(t, "the silent client is accepted", func() bool { return g.conns.count() == 1 })
	if err := call(conn); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the drain ends", drain(g, Drain{Tail: 50 * time.Millisecond, Idle: long, Streams: long, Timeout: long})); err != nil {
		t.Error(err)
	}
}

func TestDrainWithoutAGRPCServerEndsAtOnce(t *testing.T) {
	if err := waittest.Next(t, "the drain ends", drain(NewGRPCServer(), Drain{Tail: long, Timeout: long})); err != nil {
		t.Error(err)
	}
}

func TestClosedGRPCConnectionIsForgotten(t *testing.T) {
	service := &rpc{ask: func(context.Context) error { return nil }}
	g, conn := service.begin(t, false)
	for range 20 {
		if err := call(dial(t, conn.Target())); err != nil {
			t.Fatal(err)
		}
		silent, err := net.Dial("tcp", conn.Target())
		if err != nil {
			t.Fatal(err)
		}
		_ = silent.Close()
	}
	waittest.Until(t, "handshakes are over", func() bool { return g.shaking.count() == 0 })
	if n := g.conns.count(); n != 20 {
		t.Errorf("%d connections are known, want the 20 that are open", n)
	}
	if err := waittest.Next(t, "the drain ends", drain(g, Drain{Tail: 1})); err != nil {
		t.Error(err)
	}
	waittest.Until(t, "no connection is kept", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.open) == 0 && g.conns.count() == 0
	})
}

func TestGRPCDrainBeforeTwiceAndWhileServeBegins(t *testing.T) {
	service := &rpc{}
	for range 20 {
		g := NewGRPCServer()
		served := make(chan error, 3)
		serve := func() {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			service.start(g, ln, served)
		}
		serve()
		serve()
		for _, done := range []<-chan error{drain(g, Drain{Tail: 1}), drain(g, Drain{Tail: 1})} {
			if err := waittest.Next(t, "the drain ends", done); err != nil {
				t.Error(err)
			}
		}
		serve()
		for range 3 {
			if err := waittest.Next(t, "Serve returns", served); err != nil {
				t.Error(err)
			}
		}
	}
}
