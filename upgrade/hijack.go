package upgrade

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// http1Writer is what net/http's ResponseWriter for HTTP/1 offers, and that
// for HTTP/2 does not. All of it is promoted, so that handlers find it by type
// assertion as well as through http.ResponseController.
type http1Writer interface {
	http.ResponseWriter
	http.Hijacker
	http.Flusher
	io.ReaderFrom
	io.StringWriter
	FlushError() error
	CloseNotify() <-chan bool
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	EnableFullDuplex() error
}

// response is an http1Writer that closes its connection after an answer whose
// header is sent during a drain, and that remembers a hijacked connection.
type response struct {
	http1Writer
	server   *HTTPServer
	hijacked bool
	reply
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.http1Writer }

// closing comes before everything that may send the header.
func (w *response) closing() {
	if !w.hijacked && w.server.draining.given() {
		w.Header().Set("Connection", "close")
	}
}

// done is called when the handler has returned.
func (w *response) done() {
	if !w.hijacked {
		w.server.requests.Add(-1)
		w.tell()
	}
}

func (w *response) WriteHeader(code int) {
	if code >= http.StatusOK {
		w.closing()
	}
	w.answers(code)
	w.http1Writer.WriteHeader(code)
}

func (w *response) Write(p []byte) (int, error) {
	w.closing()
	w.answers(http.StatusOK)
	return w.http1Writer.Write(p)
}

func (w *response) WriteString(s string) (int, error) {
	w.closing()
	w.answers(http.StatusOK)
	return w.http1Writer.WriteString(s)
}

func (w *response) ReadFrom(r io.Reader) (int64, error) {
	w.closing()
	n, err := w.http1Writer.ReadFrom(r)
	if n > 0 { // else the header is not sent: another status may follow
		w.answers(http.StatusOK)
	}
	return n, err
}

func (w *response) Flush() {
	w.closing()
	w.streams()
	w.http1Writer.Flush()
}

func (w *response) FlushError() error {
	w.closing()
	w.streams()
	return w.http1Writer.FlushError()
}

func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := w.http1Writer.Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.hijacked = true
	w.server.requests.Add(-1)
	own := w.server.hijacked.keep(conn)
	if own == nil {
		err := fmt.Errorf("hijack: the server drains and the time of its hijacked connections is over: %w", http.ErrServerClosed)
		return nil, nil, errors.Join(err, conn.Close())
	}
	return own, rw, nil
}

// hijacked are the connections that handlers have taken from an HTTPServer,
// whose http.Server forgets them.
type hijacked struct {
	open tally

	mu    sync.Mutex
	conns map[*hijackedConn]struct{}
	over  bool // no further ones are kept
	cut   int
}

// keep remembers conn until it is closed. It returns nil if it is too late.
func (h *hijacked) keep(conn net.Conn) *hijackedConn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return nil
	}
	if h.conns == nil {
		h.conns = map[*hijackedConn]struct{}{}
	}
	c := &hijackedConn{Conn: conn, set: h}
	h.conns[c] = struct{}{}
	h.open.add(1)
	return c
}

func (h *hijacked) forget(c *hijackedConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.conns[c]; ok {
		delete(h.conns, c)
		h.open.add(-1)
	}
}

func (h *hijacked) none() <-chan struct{} { return h.open.zero() }

func (h *hijacked) cuts() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cut
}

// cutOff closes all that are open, and any that come later.
func (h *hijacked) cutOff() {
	h.mu.Lock()
	h.over = true
	h.cut += len(h.conns)
	var calls []func()
	for c := range h.conns {
		calls = append(calls, func() { _ = c.Close() })
	}
	h.mu.Unlock()
	within(closeGrace, calls...)
}

// hijackedConn is what a handler gets. What only some connections have is
// handed through where handlers look for it.
type hijackedConn struct {
	net.Conn
	set *hijacked
}

func (c *hijackedConn) Close() error {
	c.set.forget(c)
	return c.Conn.Close()
}

// NetConn returns the connection as net/http made it, such as a *net.TCPConn
// or a *tls.Conn. Close it through the hijacked one.
func (c *hijackedConn) NetConn() net.Conn { return c.Conn }

// ReadFrom and WriteTo keep io.Copy's short cuts, splice(2) among them.
func (c *hijackedConn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

func (c *hijackedConn) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, c.Conn) }

func (c *hijackedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("close the writing side of a %T: %w", c.Conn, errors.ErrUnsupported)
}

func (c *hijackedConn) SyscallConn() (syscall.RawConn, error) {
	if raw, ok := c.Conn.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return nil, fmt.Errorf("raw access to a %T: %w", c.Conn, errors.ErrUnsupported)
}
