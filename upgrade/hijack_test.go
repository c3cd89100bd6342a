package upgrade

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// websocket is a client that has had its connection upgraded.
func websocket(tb testing.TB, addr string) (net.Conn, *bufio.Reader) {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(waittest.Patience)); err != nil {
		tb.Fatal(err)
	}
	r := bufio.NewReader(conn)
	if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: words\r\n\r\n"); err != nil {
		tb.Fatal(err)
	}
	res, err := http.ReadResponse(r, nil) //nolint:bodyclose // 101 has none
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		tb.Fatalf("upgrade: %v, %v", res, err)
	}
	return conn, r
}

// words has handle talk over connections that it hijacks.
func words(tb testing.TB, handle func(r *http.Request, conn net.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			tb.Errorf("hijack: %v", err)
			return
		}
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: words\r\n\r\n")
		_ = rw.Flush()
		handle(r, conn)
	}
}

func TestHijackedConnectionIsToldAndSaysGoodbye(t *testing.T) {
	h, addr := protocols(t)[0].begin(t, words(t, func(r *http.Request, conn net.Conn) {
		<-Draining(r.Context())
		_, _ = io.WriteString(conn, "bye\n")
		_ = conn.Close()
	}))
	_, r := websocket(t, addr)
	done := drain(h, Drain{Tail: 1, Idle: 1, Streams: long, Timeout: long})
	if line, err := r.ReadString('\n'); line != "bye\n" || err != nil {
		t.Errorf("read %q, %v", line, err)
	}
	if err := waittest.Next(t, "the drain ends", done); err != nil {
		t.Error(err)
	}
}

func TestHijackedConnectionThatDoesNotEndIsClosed(t *testing.T) {
	for name, d := range map[string]Drain{
		"after Streams": {Tail: 1, Idle: 1, Streams: 50 * time.Millisecond, Timeout: long},
		"at Timeout":    {Tail: 1, Idle: 1, Streams: long, Timeout: 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			h, addr := protocols(t)[0].begin(t, words(t, func(_ *http.Request, conn net.Conn) {
				_, err := io.Copy(io.Discard, conn)
				ended <- err
			}))
			_, r := websocket(t, addr)
			err := waittest.Next(t, "the drain ends", drain(h, d))
			if !errors.Is(err, ErrCutOff) || !strings.Contains(err.Error(), "1 hijacked connection") {
				t.Errorf("drain: %v, want one hijacked connection cut off", err)
			}
			if _, err := r.ReadByte(); err == nil {
				t.Error("the client's connection is still open")
			}
			if err := waittest.Next(t, "the handler ends", ended); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the handler's read ended with %v", err)
			}
		})
	}
}

func TestHijackAfterTheTimeOfStreamsIsRefused(t *testing.T) {
	entered, release, refused := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	h, addr := protocols(t)[0].begin(t, func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _, err := w.(http.Hijacker).Hijack()
		refused <- err
	})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	waittest.Next(t, "the request is there", entered)
	done := drain(h, Drain{Tail: 1, Idle: 1, Streams: 1, Timeout: long})
	waittest.Until(t, "the time of streams is over", func() bool {
		h.hijacked.mu.Lock()
		defer h.hijacked.mu.Unlock()
		return h.hijacked.over
	})
	close(release)
	if err := waittest.Next(t, "the handler hijacks", refused); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("hijack: %v, want ErrServerClosed", err)
	}
	if err := waittest.Next(t, "the drain ends", done); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}

func TestClosedHijackedConnectionIsForgotten(t *testing.T) {
	h, addr := protocols(t)[0].begin(t, words(t, func(_ *http.Request, conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1)) // returns when the client has gone
		_ = conn.Close()
		_ = conn.Close()
	}))
	for range 20 {
		conn, _ := websocket(t, addr)
		_ = conn.Close()
	}
	waittest.Until(t, "no hijacked connection is kept", func() bool {
		h.hijacked.mu.Lock()
		defer h.hijacked.mu.Unlock()
		return len(h.hijacked.conns) == 0 && h.hijacked.open.count() == 0 && h.requests.Load() == 0
	})
}

func TestHijackedConnectionKeepsWhatTCPOffers(t *testing.T) {
	done := make(chan struct{})
	_, addr := protocols(t)[0].begin(t, words(t, func(_ *http.Request, conn net.Conn) {
		defer close(done)
		defer func() { _ = conn.Close() }()
		if _, ok := conn.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn); !ok {
			t.Error("NetConn is not the *net.TCPConn")
		}
		if _, err := io.Copy(conn, strings.NewReader("hello")); err != nil {
			t.Error(err)
		}
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
		var said strings.Builder
		if _, err := io.Copy(&said, conn); err != nil || said.String() != "answer" {
			t.Errorf("after CloseWrite read %q, %v", said.String(), err)
		}
	}))
	conn, r := websocket(t, addr)
	if all, err := io.ReadAll(r); string(all) != "hello" || err != nil {
		t.Errorf("read %q, %v", all, err)
	}
	_, _ = io.WriteString(conn, "answer")
	_ = conn.(*net.TCPConn).CloseWrite()
	waittest.Next(t, "the handler ends", done)
}

// stuckListener makes connections that nobody can close, as a TLS connection
// is for 5 s if its client does not read.
type stuckListener struct {
	net.Listener
	release <-chan struct{}
}

type stuckConn struct {
	net.Conn
	release <-chan struct{}
}

func (l stuckListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return stuckConn{conn, l.release}, nil
}

func (c stuckConn) Close() error {
	<-c.release
	return c.Conn.Close()
}

func TestConnectionThatCannotBeClosedDoesNotHoldTheDrain(t *testing.T) {
	p := protocols(t)[0]
	release := make(chan struct{})
	p.listener = func(ln net.Listener) net.Listener { return stuckListener{ln, release} }
	h, addr := p.begin(t, words(t, func(*http.Request, net.Conn) {}))
	t.Cleanup(func() { close(release) })
	websocket(t, addr) // and a connection that is idle, or new
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	waittest.Until(t, "the connections are there", func() bool { return h.conns.count() == 1 })
	err = waittest.Next(t, "the drain ends", drain(h, Drain{Tail: 1, Idle: 1, Timeout: 50 * time.Millisecond}))
	if !errors.Is(err, ErrCutOff) || !strings.Contains(err.Error(), "1 hijacked connection") {
		t.Errorf("drain: %v, want the hijacked connection cut off", err)
	}
}
