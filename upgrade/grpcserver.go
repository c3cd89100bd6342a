package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// GRPC is what a GRPCServer needs of a gRPC server: any *grpc.Server has it.
type GRPC interface {
	// Serve answers on ln until the server is stopped or ln is closed.
	Serve(ln net.Listener) error
	// GracefulStop returns once every call has ended.
	GracefulStop()
	// Stop ends every call.
	Stop()
}

// GRPCServer lets gRPC servers end without losing a call. One serves several
// of them, and drains them together. Its methods may be called concurrently.
type GRPCServer struct {
	draining *notice
	shaking  tally // connections in their handshake
	conns    tally
	unary    tally
	streams  tally

	mu        sync.Mutex
	servers   []GRPC
	listeners []net.Listener
	open      map[*grpcConn]struct{}
}

// NewGRPCServer returns one without servers.
func NewGRPCServer() *GRPCServer {
	return &GRPCServer{draining: newNotice(), open: map[*grpcConn]struct{}{}}
}

// Serve has srv answer on ln until Drain is called; then it returns nil,
// while Drain goes on. It may be called for several listeners. Once a drain
// has begun it only closes ln. Do not call srv's own Serve, GracefulStop or
// Stop.
func (g *GRPCServer) Serve(ln net.Listener, srv GRPC) error {
	g.mu.Lock()
	g.listeners = append(g.listeners, ln)
	if !slices.Contains(g.servers, srv) {
		g.servers = append(g.servers, srv)
	}
	ended := g.draining.given()
	g.mu.Unlock()
	if ended {
		return closeListeners([]net.Listener{ln})
	}
	err := srv.Serve(grpcListener{ln, g})
	if g.draining.given() {
		return nil
	}
	return err
}

// Call is to be called by an interceptor around each call: the handler gets
// the context that is returned, and ended is called after it. The drain then
// knows a call that is worth waiting for from a stream that may never end, and
// handlers are told through Draining. agent.Agent.GRPCOptions does this.
func (g *GRPCServer) Call(ctx context.Context, stream bool) (told context.Context, ended func()) {
	kind := &g.unary
	if stream {
		kind = &g.streams
	}
	kind.add(1)
	return g.draining.in(ctx), func() { kind.add(-1) }
}

// Drain stops accepting, tells the handlers (see Draining), and lets calls
// finish. d.Tail later its clients are told to go elsewhere; a connection that
// is then still in its handshake has d.Tail more. When d.Streams is over and only streams are left, they are closed;
// without Call nothing is known to be a stream, and only d.Timeout ends
// calls. If anything was closed, it returns an error that wraps ErrCutOff and
// says how many of what. It may be called before Serve, and more than once.
func (g *GRPCServer) Drain(ctx context.Context, d Drain) error {
	d = d.WithDefaults()
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	over := time.NewTimer(d.Streams)
	defer over.Stop()

	servers, err := g.begin()
	if len(servers) == 0 {
		return err
	}
	wait(ctx, d.Tail, nil)
	// GracefulStop waits for every handshake before it tells any client to go
	// elsewhere, and Stop does too: without this, one client that connects and
	// says nothing would keep both for the two minutes that gRPC gives it. It
	// is not waited for long either: until clients are told, a stream that says
	// goodbye comes back to this server at once, again and again.
	wait(ctx, d.Tail, g.shaking.zero())
	g.closeConns(func(c *grpcConn) bool { return c.shaking })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		together(servers, GRPC.GracefulStop)
	}()
	select {
	case <-stopped:
		return err
	case <-ctx.Done():
	case <-over.C:
		if !g.awaitCalls(ctx, d.Tail, stopped) {
			return err
		}
	}
	err = errors.Join(err, g.stop(ctx, servers))
	// Handlers see the end of their context; those that heed it are done
	// before the host program closes what they use.
	wait(context.Background(), closeGrace, stopped)
	return err
}

// begin tells the handlers and stops accepting.
func (g *GRPCServer) begin() ([]GRPC, error) {
	g.mu.Lock()
	g.draining.give()
	servers, listeners := slices.Clone(g.servers), slices.Clone(g.listeners)
	g.mu.Unlock()
	return servers, closeListeners(listeners)
}

// awaitCalls waits until only streams are left, and reports whether anything
// is.
func (g *GRPCServer) awaitCalls(ctx context.Context, tail time.Duration, stopped <-chan struct{}) (left bool) {
	var calls <-chan struct{}
	if g.streams.count() > 0 {
		calls = g.unary.zero()
	}
	select {
	case <-stopped:
	case <-calls:
		// The last answer is on its way only now.
		wait(ctx, tail, stopped)
	case <-ctx.Done():
	}
	select {
	case <-stopped:
		return false
	default:
		return true
	}
}

// stop ends what is left, and says what that was.
func (g *GRPCServer) stop(ctx context.Context, servers []GRPC) error {
	cuts := []cut{{g.unary.count(), "gRPC call"}, {g.streams.count(), "gRPC stream"}}
	if cuts[0].n+cuts[1].n == 0 {
		cuts = append(cuts, cut{g.conns.count(), "gRPC connection"})
	}
	// Stop waits for handlers if it was told to, so its end is not waited for
	// longer than a moment; it is closing the connections that counts.
	within(closeGrace, func() { together(servers, GRPC.Stop) })
	g.closeConns(func(*grpcConn) bool { return true })
	return cutOff(ctx, cuts...)
}

func together(servers []GRPC, stop func(GRPC)) {
	var all sync.WaitGroup
	for _, s := range servers {
		all.Go(func() { stop(s) })
	}
	all.Wait()
}

func (g *GRPCServer) closeConns(which func(*grpcConn) bool) {
	g.mu.Lock()
	var chosen []net.Conn
	for c := range g.open {
		if which(c) {
			chosen = append(chosen, c.Conn)
		}
	}
	g.mu.Unlock()
	for _, c := range chosen {
		_ = c.Close() // gRPC notices and closes its own side
	}
}

// grpcListener has its server know the connections.
type grpcListener struct {
	net.Listener
	server *GRPCServer
}

func (l grpcListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &grpcConn{Conn: conn, server: l.server, shaking: true}
	g := l.server
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open[c] = struct{}{}
	g.conns.add(1)
	g.shaking.add(1)
	return c, nil
}

// grpcConn is a connection to a gRPC server, from accept to close.
type grpcConn struct {
	net.Conn
	server  *GRPCServer
	shaking bool // guarded by server.mu
}

// SetDeadline is what gRPC calls, with no deadline, when the handshake is
// over.
func (c *grpcConn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.server.mu.Lock()
		c.shaken()
		c.server.mu.Unlock()
	}
	return c.Conn.SetDeadline(t)
}

func (c *grpcConn) shaken() {
	if c.shaking {
		c.shaking = false
		c.server.shaking.add(-1)
	}
}

func (c *grpcConn) Close() error {
	g := c.server
	g.mu.Lock()
	if _, ok := g.open[c]; ok {
		delete(g.open, c)
		c.shaken()
		g.conns.add(-1)
	}
	g.mu.Unlock()
	return c.Conn.Close()
}

// SyscallConn lets gRPC see the socket.
func (c *grpcConn) SyscallConn() (syscall.RawConn, error) {
	if raw, ok := c.Conn.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return nil, fmt.Errorf("raw access to a %T: %w", c.Conn, errors.ErrUnsupported)
}
