package upgrade

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// drained is a server that can be told to drain, and a raw connection to it
// on which one request has been answered.
func drained(t *testing.T, handler http.Handler) (*HTTPServer, net.Conn, *bufio.Reader, chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := NewHTTPServer(&http.Server{Handler: handler, ReadHeaderTimeout: time.Minute})
	served := make(chan error, 1)
	go func() { served <- h.Serve(ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r := bufio.NewReader(conn)
	if ask(t, conn, r) {
		t.Fatal("the connection is not kept alive to begin with")
	}
	return h, conn, r, served
}

// ask makes a request and reports whether the answer closes the connection.
func ask(t *testing.T, conn net.Conn, r *bufio.Reader) (closes bool) {
	t.Helper()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return answer(t, r)
}

func answer(t *testing.T, r *bufio.Reader) (closes bool) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("the request got no answer: %v", err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", res.Status, err)
	}
	return res.Close
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "ok") }

func TestIdleClientIsToldToCloseInsteadOfBeingReset(t *testing.T) {
	h, conn, r, served := drained(t, http.HandlerFunc(ok))
	done := make(chan error, 1)
	go func() { done <- h.Drain(context.Background(), Drain{Tail: time.Millisecond, Idle: time.Minute}) }()
	if err := <-served; err != nil {
		t.Fatalf("Serve ended with %v while draining", err)
	}
	// Well past the tail, the idle connection is still there.
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("an idle connection ended with %v", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if !ask(t, conn, r) {
		t.Error("the answer during a drain does not say Connection: close")
	}
	// The last connection has gone, so the rest of the minute is not waited.
	if err := <-done; err != nil {
		t.Error(err)
	}
}
