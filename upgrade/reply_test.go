package upgrade

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// observed is what an HTTPServer tells of a request.
type observed struct {
	method string
	code   int
	took   time.Duration
}

// TestRequestIsObservedOnceWithTheStatusThatItsClientGets: over each protocol
// the writer is another one, and each way of answering goes by another method.
func TestRequestIsObservedOnceWithTheStatusThatItsClientGets(t *testing.T) {
	for _, p := range protocols(t) {
		t.Run(p.name, func(t *testing.T) {
			seen := make(chan observed, 16)
			streaming, release := make(chan struct{}), make(chan struct{})
			mux := http.NewServeMux()
			mux.HandleFunc("/silent", func(http.ResponseWriter, *http.Request) {})
			mux.HandleFunc("/text", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "text") })
			mux.HandleFunc("/copied", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, strings.NewReader("text")) })
			mux.HandleFunc("/failed-copy", func(w http.ResponseWriter, _ *http.Request) {
				if _, err := io.Copy(w, iotest.ErrReader(errors.New("no upstream"))); err != nil {
					w.WriteHeader(http.StatusBadGateway)
				}
			})
			mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(http.StatusTeapot)
				w.WriteHeader(http.StatusOK) // net/http ignores it
			})
			mux.HandleFunc("/panics", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				close(streaming)
				<-release
				_, _ = io.WriteString(w, "text")
			})
			addr := p.observing(t, mux, func(r *http.Request, code int, took time.Duration) { seen <- observed{r.Method, code, took} })
			client := p.client(t)
			for path, want := range map[string]int{
				"/silent": 200, "/text": 200, "/copied": 200, "/failed-copy": 502, "/hints": 418, "/nowhere": 404, "/panics": 500,
			} {
				// On a connection of its own, for on another it would be sent again.
				res, err := p.client(t).Get(p.scheme + addr + path)
				if err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				if (err != nil) != (want == 500) || err == nil && res.StatusCode != want {
					t.Errorf("%s: the client got %v, %v", path, res, err)
				}
				if got := waittest.Next(t, path+" is observed", seen); got.method != "GET" || got.code != want || got.took <= 0 {
					t.Errorf("%s: observed %+v, want %d", path, got, want)
				}
			}
			answered := make(chan error, 1)
			go func() {
				res, err := client.Get(p.scheme + addr + "/stream")
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				answered <- err
			}()
			waittest.Next(t, "the stream begins", streaming)
			if got := waittest.Next(t, "the stream is observed before its end", seen); got.code != 200 {
				t.Errorf("observed %+v", got)
			}
			close(release)
			if err := waittest.Next(t, "the stream ends", answered); err != nil {
				t.Error(err)
			}
			if len(seen) > 0 {
				t.Errorf("observed once more: %+v", <-seen)
			}
		})
	}
}

// TestObservedHandlerHasAllThatItsWriterOffers: a wrapper that hides a Flusher
// or a Hijacker breaks streams, WebSockets and sendfile of programs that are
// not told.
func TestObservedHandlerHasAllThatItsWriterOffers(t *testing.T) {
	for _, p := range protocols(t) {
		t.Run(p.name, func(t *testing.T) {
			missing := make(chan error, 1)
			addr := p.observing(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				var errs []error
				has := func(name string, ok bool) {
					if !ok {
						errs = append(errs, fmt.Errorf("no %s", name))
					}
				}
				_, flusher := w.(http.Flusher)
				_, writer := w.(io.StringWriter)
				_, hijacker := w.(http.Hijacker)
				_, reader := w.(io.ReaderFrom)
				_, pusher := w.(http.Pusher)
				one := p.proto == "HTTP/1.1"
				has("Flusher", flusher)
				has("StringWriter", writer)
				has("Hijacker where there is one", hijacker == one)
				has("ReaderFrom where there is one", reader == one)
				has("Pusher where there is one", pusher != one)
				c := http.NewResponseController(w)
				errs = append(errs, c.SetReadDeadline(time.Now().Add(time.Minute)), c.SetWriteDeadline(time.Now().Add(time.Minute)), c.EnableFullDuplex(), c.Flush())
				missing <- errors.Join(errs...)
			}), func(*http.Request, int, time.Duration) {})
			res, err := p.client(t).Get(p.scheme + addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if err := waittest.Next(t, "the handler answers", missing); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHijackedConnectionIsNotObserved: one that lives for hours is no slow
// request.
func TestHijackedConnectionIsNotObserved(t *testing.T) {
	p := protocols(t)[0]
	seen := make(chan int, 2)
	mux := http.NewServeMux()
	mux.HandleFunc("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		_ = conn.Close()
	})
	addr := p.observing(t, mux, func(_ *http.Request, code int, _ time.Duration) { seen <- code })
	client := p.client(t)
	for _, path := range []string{"/hijack", "/nowhere"} {
		res, err := client.Get(p.scheme + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	if code := waittest.Next(t, "the other request is observed", seen); code != 404 {
		t.Errorf("observed with %d, want only the other request's 404", code)
	}
}

// observing serves handler as p does, with its requests told to f.
func (p protocol) observing(tb testing.TB, handler http.Handler, f func(*http.Request, int, time.Duration)) (addr string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	srv := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	p.server(srv)
	h := NewHTTPServer(srv)
	h.Observe(f)
	served := make(chan error, 1)
	go func() { served <- h.Serve(p.listener(ln)) }()
	tb.Cleanup(func() {
		_ = h.Drain(tb.Context(), Drain{Tail: 1, Idle: 1, Timeout: 1})
		if err := waittest.Next(tb, "Serve returns", served); err != nil {
			tb.Error(err)
		}
	})
	return ln.Addr().String()
}

// plainWriter is a writer of HTTP/1 that costs nothing.
type plainWriter struct{ http1Writer }

func (plainWriter) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkObservedRequest is what observing adds to a request: the difference
// of the two.
func BenchmarkObservedRequest(b *testing.B) {
	for name, f := range map[string]func(*http.Request, int, time.Duration){
		"unobserved": nil,
		"observed":   func(*http.Request, int, time.Duration) {},
	} {
		b.Run(name, func(b *testing.B) {
			h := NewHTTPServer(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nil) })})
			h.Observe(f)
			var w http.ResponseWriter = plainWriter{}
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			b.ReportAllocs()
			for b.Loop() {
				h.server.Handler.ServeHTTP(w, r)
			}
		})
	}
}
