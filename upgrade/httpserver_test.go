package upgrade

import (
	"bufio"
	"context"
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

// long is a time that a test would notice.
const long = 24 * time.Hour

// begin serves handler as p does, and returns the server and its address.
func (p protocol) begin(tb testing.TB, handler http.HandlerFunc) (h *HTTPServer, addr string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	srv := &http.Server{Handler: handler}
	p.server(srv)
	h = NewHTTPServer(srv)
	served := make(chan error, 1)
	go func() { served <- h.Serve(p.listener(ln)) }()
	tb.Cleanup(func() {
		_ = h.Drain(context.Background(), Drain{Tail: 1, Idle: 1, Timeout: 1})
		if err := waittest.Next(tb, "Serve returns", served); err != nil {
			tb.Errorf("Serve ended with %v in a drain", err)
		}
	})
	return h, ln.Addr().String()
}

// drain drains h in the background.
func drain(h interface {
	Drain(context.Context, Drain) error
}, d Drain) <-chan error {
	done := make(chan error, 1)
	go func() { done <- h.Drain(context.Background(), d) }()
	return done
}

// Without GOAWAY on a connection that is idle, this drain takes as long as it
// may, and then closes it under its client.
func TestIdleHTTP2ClientIsToldToGoAway(t *testing.T) {
	for _, p := range protocols(t)[1:] {
		t.Run(p.name, func(t *testing.T) {
			h, addr := p.begin(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok ") })
			if err := p.request(p.client(t), http.MethodGet, addr, ""); err != nil {
				t.Fatal(err)
			}
			done := drain(h, Drain{Idle: long, Timeout: long})
			if err := waittest.Next(t, "the drain ends", done); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRequestInProgressIsAnsweredInADrain(t *testing.T) {
	for _, p := range protocols(t) {
		t.Run(p.name, func(t *testing.T) {
			entered, release := make(chan struct{}), make(chan struct{})
			h, addr := p.begin(t, func(w http.ResponseWriter, _ *http.Request) {
				close(entered)
				<-release
				_, _ = io.WriteString(w, "ok ")
			})
			answer := make(chan error, 1)
			go func() { answer <- p.request(p.client(t), http.MethodGet, addr, "") }()
			waittest.Next(t, "the request is there", entered)
			done := drain(h, Drain{Tail: 1, Idle: 1, Timeout: long})
			waittest.Next(t, "the drain begins", h.draining.ch)
			select {
			case err := <-done:
				t.Fatalf("drained, %v, with a request in progress", err)
			case <-time.After(50 * time.Millisecond):
			}
			close(release)
			if err := waittest.Next(t, "the answer comes", answer); err != nil {
				t.Error(err)
			}
			if err := waittest.Next(t, "the drain ends", done); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStreamingHandlerLearnsOfTheDrain(t *testing.T) {
	for _, p := range protocols(t) {
		t.Run(p.name, func(t *testing.T) {
			entered := make(chan struct{})
			h, addr := p.begin(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "ok ")
				w.(http.Flusher).Flush()
				close(entered)
				<-Draining(r.Context())
				_, _ = io.WriteString(w, "bye")
			})
			var got string
			answer := make(chan error, 1)
			go func() {
				res, err := p.client(t).Get(p.scheme + addr)
				if err == nil {
					var body []byte
					body, err = io.ReadAll(res.Body)
					got = string(body)
					_ = res.Body.Close()
				}
				answer <- err
			}()
			waittest.Next(t, "the stream is open", entered)
			if err := waittest.Next(t, "the drain ends", drain(h, Drain{Tail: 1, Idle: 1, Timeout: long})); err != nil {
				t.Error(err)
			}
			if err := waittest.Next(t, "the stream ends", answer); err != nil || got != "ok bye" {
				t.Errorf("streamed %q, %v, want \"ok bye\"", got, err)
			}
		})
	}
}

func TestNobodyDrainsAnotherContext(t *testing.T) {
	if c := Draining(context.Background()); c != nil {
		t.Errorf("Draining of a context without a server is %v, want nil", c)
	}
}

// The header of the answer is sent in the drain, whichever way a handler that
// began before sends it.
func TestSlowAnswerToAKeptConnectionSaysClose(t *testing.T) {
	for name, write := range map[string]func(w http.ResponseWriter) error{
		"Write":       func(w http.ResponseWriter) error { _, err := w.Write([]byte("ok")); return err },
		"WriteHeader": func(w http.ResponseWriter) error { w.WriteHeader(http.StatusOK); return nil },
		"WriteString": func(w http.ResponseWriter) error { _, err := w.(io.StringWriter).WriteString("ok"); return err },
		"ReadFrom": func(w http.ResponseWriter) error {
			_, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("ok"))
			return err
		},
		"Flush":      func(w http.ResponseWriter) error { w.(http.Flusher).Flush(); return nil },
		"controller": func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
		"nothing":    func(http.ResponseWriter) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			entered, release := make(chan struct{}, 1), make(chan struct{})
			h, conn, r, served := drained(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/slow" {
					entered <- struct{}{}
					<-release
					if err := write(w); err != nil {
						t.Error(err)
					}
				}
			}))
			if _, err := io.WriteString(conn, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			waittest.Next(t, "the request is there", entered)
			done := drain(h, Drain{Idle: long, Timeout: long})
			waittest.Next(t, "Serve returns", served)
			close(release)
			if !answer(t, r) {
				t.Error("the answer does not say Connection: close")
			}
			if err := waittest.Next(t, "the drain ends", done); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHandlerFindsEverythingThatNetHTTPOffers(t *testing.T) {
	for _, p := range protocols(t) {
		t.Run(p.name, func(t *testing.T) {
			_, addr := p.begin(t, func(w http.ResponseWriter, _ *http.Request) {
				ctl := http.NewResponseController(w)
				for what, err := range map[string]error{
					"read deadline":  ctl.SetReadDeadline(time.Time{}),
					"write deadline": ctl.SetWriteDeadline(time.Time{}),
					"full duplex":    ctl.EnableFullDuplex(),
				} {
					if err != nil {
						t.Errorf("%s: %v", what, err)
					}
				}
				_, hijacker := w.(http.Hijacker)
				_, readerFrom := w.(io.ReaderFrom)
				_, unwraps := w.(interface{ Unwrap() http.ResponseWriter })
				if http1 := p.proto == "HTTP/1.1"; hijacker != http1 || readerFrom != http1 || unwraps != http1 {
					t.Errorf("%s: Hijacker %v, ReaderFrom %v, Unwrap %v", p.proto, hijacker, readerFrom, unwraps)
				}
				if _, ok := w.(http.Flusher); !ok {
					t.Error("no Flusher")
				}
				_, _ = io.WriteString(w, "ok ")
			})
			if err := p.request(p.client(t), http.MethodGet, addr, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestServeInOrAfterADrainOnlyCloses(t *testing.T) {
	h := NewHTTPServer(&http.Server{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- h.Drain(ctx, Drain{Tail: long, Timeout: long}) }()
	waittest.Next(t, "the drain begins", h.draining.ch)
	for _, when := range []string{"in", "after"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- h.Serve(ln) }()
		if err := waittest.Next(t, "Serve returns", served); err != nil {
			t.Errorf("Serve %s a drain: %v", when, err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the listener is still open: %v", err)
		}
		if when == "in" {
			cancel()
			if err := waittest.Next(t, "the drain ends", done); err != nil {
				t.Error(err)
			}
		}
	}
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

func TestDrainTwiceAndWhileServeBegins(t *testing.T) {
	for range 50 {
		h := NewHTTPServer(&http.Server{})
		served := make(chan error, 2)
		for range 2 {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go func() { served <- h.Serve(ln) }()
		}
		for _, done := range []<-chan error{drain(h, Drain{Tail: 1}), drain(h, Drain{Tail: 1})} {
			if err := waittest.Next(t, "the drain ends", done); err != nil {
				t.Error(err)
			}
		}
		for range 2 {
			if err := waittest.Next(t, "Serve returns", served); err != nil {
				t.Error(err)
			}
		}
	}
}

// Each of these clients or handlers would keep a server for ever.
func TestDrainSaysWhatItHadToCutOff(t *testing.T) {
	release := make(chan struct{})
	for _, p := range protocols(t) {
		for name, handler := range map[string]http.HandlerFunc{
			"a handler that is stuck": func(http.ResponseWriter, *http.Request) { <-release },
			"a client that never reads": func(w http.ResponseWriter, _ *http.Request) {
				for err := error(nil); err == nil; {
					_, err = w.Write(make([]byte, 1<<16))
				}
			},
		} {
			t.Run(p.name+" "+name, func(t *testing.T) {
				entered := make(chan struct{}, 2)
				h, addr := p.begin(t, func(w http.ResponseWriter, r *http.Request) {
					entered <- struct{}{}
					handler(w, r)
				})
				for range 2 {
					go func() {
						res, err := p.client(t).Get(p.scheme + addr)
						if err == nil {
							t.Cleanup(func() { _ = res.Body.Close() })
						}
					}()
					waittest.Next(t, "the request is there", entered)
				}
				err := waittest.Next(t, "the drain ends", drain(h, Drain{Tail: 1, Idle: 1, Timeout: 100 * time.Millisecond}))
				if !errors.Is(err, ErrCutOff) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "cut off 2 requests") {
					t.Errorf("drain: %v, want 2 requests cut off at the deadline", err)
				}
			})
		}
	}
	close(release)
}

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
	res, err := http.ReadResponse(r, nil)
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
