package agent

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/upgrade"
)

// ServeGRPC serves srv, such as a *grpc.Server, on ln in the background. When
// the agent ends or is superseded, it is drained as Config.Drain says, without
// losing a call. srv belongs to the agent from then on. Make it with
// GRPCOptions if it has streams.
func (a *Agent) ServeGRPC(ln net.Listener, srv upgrade.GRPC) {
	s := a.host.grpcServer()
	a.Go("grpc server on "+ln.Addr().String(), func(context.Context) error { return s.Serve(ln, srv) })
}

// GRPCOptions are options for grpc.NewServer: the contexts of its handlers
// tell of a drain, see upgrade.Draining, and streams that do not end are
// closed after Drain.Streams, while calls have until Drain.Timeout. Calls that
// are no streams are measured, as requests are. Give them to all gRPC servers of
// the agent or to none, after those with interceptors that should see calls
// first.
func (a *Agent) GRPCOptions() []grpc.ServerOption {
	s, requests := a.host.grpcServer(), a.metrics.requests
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			ctx, ended := s.Call(ctx, false)
			defer ended()
			began := time.Now()
			answer, err := handle(ctx, req)
			requests.grpc(codeOf(err), time.Since(began))
			return answer, err
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			ctx, ended := s.Call(stream.Context(), true)
			defer ended()
			return handle(srv, &toldStream{stream, ctx})
		}),
	}
}

// codeOf is the code that a client gets for a handler's err.
func codeOf(err error) codes.Code {
	if s, ok := grpcstatus.FromError(err); ok {
		return s.Code()
	}
	return grpcstatus.FromContextError(err).Code()
}

// toldStream is a stream with another context.
type toldStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *toldStream) Context() context.Context { return s.ctx }

// grpcServer is one for all gRPC servers, which are drained together.
func (w *hostWork) grpcServer() *upgrade.GRPCServer {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.grpc == nil {
		w.grpc = upgrade.NewGRPCServer()
		w.add(w.grpc)
	}
	return w.grpc
}
