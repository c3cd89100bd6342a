package upgrade

import (
	"context"
	"errors"
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
			if err := waittest.Next(t, "Serve returns", served); err != nil {
				t.Error(err)
			}
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
