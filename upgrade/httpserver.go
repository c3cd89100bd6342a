package upgrade

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// HTTPServer is an http.Server that ends without dropping a request, over
// HTTP/1.1 and HTTP/2. Its methods may be called concurrently.
type HTTPServer struct {
	server   *http.Server
	draining *notice
	// http2 serves no connection itself, but its Shutdown sends GOAWAY on
	// those of server; nil without HTTP/2.
	http2     *http.Server
	accepting tally // Serve calls in progress
	conns     tally
	requests  atomic.Int64 // in progress, without those that were hijacked
	hijacked  hijacked
	observe   func(r *http.Request, code int, took time.Duration) // may be nil

	mu        sync.Mutex
	listeners []net.Listener
}

// headerTimeout is the default of http.Server.ReadHeaderTimeout: without one,
// clients that never finish a header hold connections, and a drain, for ever.
const headerTimeout = 10 * time.Second

// NewHTTPServer takes over server, whose Handler, ConnState, BaseContext and
// TLSNextProto it wraps. Do not call server's own Serve, Shutdown or Close,
// nor change it any more. ReadHeaderTimeout, if zero, becomes 10 s.
func NewHTTPServer(server *http.Server) *HTTPServer {
	h := &HTTPServer{server: server, draining: newNotice()}
	setDefault(&server.ReadHeaderTimeout, headerTimeout)
	h.wrapHandler()
	told := server.ConnState
	server.ConnState = func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			h.conns.add(1)
		case http.StateClosed, http.StateHijacked:
			h.conns.add(-1)
		default: // active and idle connections stay counted
		}
		if told != nil {
			told(c, s)
		}
	}
	base := server.BaseContext
	server.BaseContext = func(ln net.Listener) context.Context {
		ctx := context.Background()
		if base != nil {
			ctx = base(ln)
		}
		return h.draining.in(ctx)
	}
	h.takeHTTP2()
	return h
}

func (h *HTTPServer) wrapHandler() {
	next := h.server.Handler
	if next == nil {
		next = http.DefaultServeMux
	}
	h.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.requests.Add(1)
		if plain, ok := w.(http1Writer); ok {
			own := &response{http1Writer: plain, server: h, reply: h.reply(r)}
			defer own.done()
			next.ServeHTTP(own, r)
			own.closing()
			own.finished()
			return
		}
		defer h.requests.Add(-1)
		if h.draining.given() {
			// In HTTP/2 this makes net/http send GOAWAY.
			w.Header().Set("Connection", "close")
		}
		if plain, ok := w.(http2Writer); ok && h.observe != nil {
			own := &response2{http2Writer: plain, reply: h.reply(r)}
			defer own.tell()
			next.ServeHTTP(own, r)
			own.finished()
			return
		}
		next.ServeHTTP(w, r)
	})
}

// takeHTTP2 moves net/http's HTTP/2 to a server of its own. GOAWAY goes out on
// all connections, idle ones too, in Shutdown only, and Shutdown closes idle
// connections in the same moment: what their clients send just then is lost,
// and no client of HTTP/2 sends it again. A server without connections of its
// own gives the GOAWAY long before.
func (h *HTTPServer) takeHTTP2() {
	s := h.server
	if s.TLSNextProto != nil {
		return // somebody else's HTTP/2, or none is wanted
	}
	own := &http.Server{
		TLSConfig: s.TLSConfig, Protocols: s.Protocols, HTTP2: s.HTTP2,
		IdleTimeout: s.IdleTimeout, ReadTimeout: s.ReadTimeout, ReadHeaderTimeout: s.ReadHeaderTimeout,
	}
	_ = own.Serve(noListener{}) // sets up HTTP/2 and returns
	if own.TLSNextProto != nil {
		s.TLSNextProto, h.http2 = own.TLSNextProto, own
	}
}

// noListener accepts nothing.
type noListener struct{}

func (noListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return &net.TCPAddr{} }

// goAway tells the clients of HTTP/2 to make their next request elsewhere.
// Streams go on; a connection without any is closed a second later.
func (h *HTTPServer) goAway(ctx context.Context) error {
	if h.http2 == nil {
		return nil
	}
	return h.http2.Shutdown(ctx)
}

// Serve answers on ln until Drain is called; then it returns nil at once,
// while Drain goes on. It may be called for several listeners. Once a drain
// has begun it only closes ln. For HTTPS, ln is a tls.NewListener whose
// NextProtos offer "h2" if HTTP/2 is wanted.
func (h *HTTPServer) Serve(ln net.Listener) error {
	h.mu.Lock()
	h.listeners = append(h.listeners, ln)
	ended := h.draining.given()
	if !ended {
		h.accepting.add(1)
		defer h.accepting.add(-1)
	}
	h.mu.Unlock()
	if ended {
		return closeListeners([]net.Listener{ln})
	}
	err := h.server.Serve(ln)
	if h.draining.given() {
		return nil
	}
	return err
}

// begin tells the handlers and stops accepting.
func (h *HTTPServer) begin() error {
	h.mu.Lock()
	h.draining.give()
	listeners := slices.Clone(h.listeners)
	h.mu.Unlock()
	return closeListeners(listeners)
}

func closeListeners(listeners []net.Listener) error {
	var errs []error
	for _, ln := range listeners {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Drain stops accepting, tells the handlers (see Draining), lets clients
// finish as d says, and closes what is left. If that was anything, it returns
// an error that wraps ErrCutOff and says how many of what. It may be called
// before Serve, and more than once.
func (h *HTTPServer) Drain(ctx context.Context, d Drain) error {
	d = d.WithDefaults()
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	streams := time.AfterFunc(d.Streams, h.hijacked.cutOff)
	defer streams.Stop()

	errs := []error{h.begin(), h.goAway(ctx)}
	wait(ctx, d.Tail, h.deserted())
	// Once more, for connections that were just being made.
	errs = append(errs, h.goAway(ctx))
	wait(ctx, d.Idle, h.conns.zero())
	quiet, err := h.shutdown(ctx)
	select {
	case <-h.hijacked.none():
	case <-ctx.Done():
	}
	requests, conns := 0, 0
	if !quiet {
		if requests = int(h.requests.Load()); requests == 0 {
			conns = h.conns.count()
		}
	}
	if ctx.Err() != nil {
		within(closeGrace, func() { _ = h.server.Close() }, h.hijacked.cutOff)
	}
	return errors.Join(append(errs, err, cutOff(ctx,
		cut{requests, "request"}, cut{conns, "connection"}, cut{h.hijacked.cuts(), "hijacked connection"}))...)
}

// deserted returns a channel that is closed when the last connection has been
// closed and no other can come. A connection is counted before its Accept
// loop goes on, so none is between the two.
func (h *HTTPServer) deserted() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-h.accepting.zero()
		<-h.conns.zero()
	}()
	return done
}

// shutdown closes connections as they become idle, and reports whether all
// did before the end of ctx. It returns then, even where http.Server.Shutdown
// does not: that may be busy closing TLS connections of clients that do not
// read.
func (h *HTTPServer) shutdown(ctx context.Context) (quiet bool, err error) {
	shut := make(chan error, 1)
	go func() { shut <- h.server.Shutdown(ctx) }()
	select {
	case err = <-shut:
	case <-ctx.Done():
		select {
		case err = <-shut:
		case <-time.After(closeGrace):
			return false, nil
		}
	}
	switch {
	case err == nil, errors.Is(err, net.ErrClosed): // a listener that Drain has closed, and Serve not yet left
		return true, nil
	case ctx.Err() != nil:
		return false, nil //nolint:nilerr // what was still open, Drain says
	default:
		return true, err
	}
}
