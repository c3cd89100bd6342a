package upgrade

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Drain says how a server that is no longer wanted lets go of its clients.
// The zero value is the default.
type Drain struct {
	// Tail is how long a server goes on answering after it has stopped
	// accepting, so that requests that are on their way still get their
	// answer; default 300 ms. http.Server.Shutdown alone drops them
	// (golang/go#75591).
	Tail time.Duration
	// Idle is how much longer connections without a request are kept, so
	// that the next request of a client that pauses is answered with
	// "Connection: close" instead of a reset; default 5 s. It ends early
	// with the last connection.
	Idle time.Duration
	// Timeout bounds the whole drain; default 30 s. What is still open
	// then is closed.
	Timeout time.Duration
}

func (d Drain) withDefaults() Drain {
	setDefault(&d.Tail, 300*time.Millisecond)
	setDefault(&d.Idle, 5*time.Second)
	setDefault(&d.Timeout, 30*time.Second)
	return d
}

// HTTPServer is an http.Server that ends without dropping a request.
type HTTPServer struct {
	server   *http.Server
	draining atomic.Bool

	mu       sync.Mutex
	conns    int
	none     chan struct{} // closed while there is no connection
	listener net.Listener
}

// headerTimeout is the default of http.Server.ReadHeaderTimeout: without one,
// clients that never finish a header hold connections, and a drain, for ever.
const headerTimeout = 10 * time.Second

// NewHTTPServer takes over server, whose Handler and ConnState it wraps. Do
// not call server's own Serve, Shutdown or Close. ReadHeaderTimeout, if zero,
// becomes 10 s.
func NewHTTPServer(server *http.Server) *HTTPServer {
	h := &HTTPServer{server: server, none: make(chan struct{})}
	close(h.none)
	setDefault(&server.ReadHeaderTimeout, headerTimeout)
	next := server.Handler
	if next == nil {
		next = http.DefaultServeMux
	}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.draining.Load() {
			// In HTTP/2 this makes net/http send GOAWAY.
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
	told := server.ConnState
	server.ConnState = func(c net.Conn, s http.ConnState) {
		h.count(s)
		if told != nil {
			told(c, s)
		}
	}
	return h
}

func (h *HTTPServer) count(s http.ConnState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch s {
	case http.StateNew:
		if h.conns == 0 {
			h.none = make(chan struct{})
		}
		h.conns++
	case http.StateClosed, http.StateHijacked:
		if h.conns--; h.conns == 0 {
			close(h.none)
		}
	default: // active and idle connections stay counted
	}
}

func (h *HTTPServer) noConns() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.none
}

// Serve answers on ln until Drain is called; then it returns nil at once,
// while Drain goes on.
func (h *HTTPServer) Serve(ln net.Listener) error {
	h.mu.Lock()
	h.listener = ln
	h.mu.Unlock()
	err := h.server.Serve(ln)
	if h.draining.Load() {
		return nil
	}
	return err
}

// Drain stops accepting, lets clients finish as d says, and closes what is
// left. It returns an error if connections had to be closed in a request.
func (h *HTTPServer) Drain(ctx context.Context, d Drain) error {
	d = d.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	h.draining.Store(true)
	h.mu.Lock()
	ln := h.listener
	h.mu.Unlock()
	if ln != nil {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
	}
	wait(ctx, d.Tail, nil)
	wait(ctx, d.Idle, h.noConns())
	if err := h.server.Shutdown(ctx); err != nil {
		return errors.Join(err, h.server.Close())
	}
	return nil
}

// wait returns after d, at the end of ctx, or when done is closed.
func wait(ctx context.Context, d time.Duration, done <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-done:
	}
}
