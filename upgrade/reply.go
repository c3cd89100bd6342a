package upgrade

import (
	"io"
	"net/http"
	"time"
)

// Observe has f called once for each request: with its status, and how long it
// took until its handler had returned or until the first Flush, after which a
// client has what it waits for, though not all of it. Requests whose connection
// was hijacked are left out; a handler that panics before it answers counts as
// 500. f must be quick and may be called concurrently. Call Observe before Serve.
func (h *HTTPServer) Observe(f func(r *http.Request, code int, took time.Duration)) { h.observe = f }

// reply is what is observed of one request. It belongs to the handler's
// goroutine.
type reply struct {
	observe func(r *http.Request, code int, took time.Duration) // nil = by nobody
	request *http.Request
	began   time.Time
	code    int // 0 = not answered yet
}

func (h *HTTPServer) reply(r *http.Request) reply {
	if h.observe == nil {
		return reply{}
	}
	return reply{observe: h.observe, request: r, began: time.Now()}
}

// answers takes note of a status; that of a provisional answer is none.
func (a *reply) answers(code int) {
	if a.code == 0 && (code >= http.StatusOK || code == http.StatusSwitchingProtocols) {
		a.code = code
	}
}

// finished is called when a handler has returned by itself.
func (a *reply) finished() { a.answers(http.StatusOK) }

// streams tells of the request before the rest of its answer.
func (a *reply) streams() {
	a.answers(http.StatusOK)
	a.tell()
}

// tell tells of the request, once.
func (a *reply) tell() {
	if a.observe == nil {
		return
	}
	if a.code == 0 { // the handler has panicked
		a.code = http.StatusInternalServerError
	}
	a.observe(a.request, a.code, time.Since(a.began))
	a.observe = nil
}

// http2Writer is what net/http's ResponseWriter for HTTP/2 offers; see
// http1Writer.
type http2Writer interface {
	http.ResponseWriter
	http.Flusher
	http.Pusher
	io.StringWriter
	FlushError() error
	CloseNotify() <-chan bool
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	EnableFullDuplex() error
}

// response2 is an http2Writer that is observed.
type response2 struct {
	http2Writer
	reply
}

// Unwrap is for http.ResponseController.
func (w *response2) Unwrap() http.ResponseWriter { return w.http2Writer }

func (w *response2) WriteHeader(code int) {
	w.answers(code)
	w.http2Writer.WriteHeader(code)
}

func (w *response2) Write(p []byte) (int, error) {
	w.answers(http.StatusOK)
	return w.http2Writer.Write(p)
}

func (w *response2) WriteString(s string) (int, error) {
	w.answers(http.StatusOK)
	return w.http2Writer.WriteString(s)
}

func (w *response2) Flush() {
	w.streams()
	w.http2Writer.Flush()
}

func (w *response2) FlushError() error {
	w.streams()
	return w.http2Writer.FlushError()
}
