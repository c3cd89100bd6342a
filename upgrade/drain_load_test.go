package upgrade

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// swaps is how often the tests under load replace a server.
const swaps = 20

// socket is a listening socket that several servers share, as those of two
// processes do in a swap.
type socket struct {
	testing.TB
	*net.TCPListener
}

func newSocket(tb testing.TB) *socket {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	return &socket{tb, ln.(*net.TCPListener)}
}

// share returns a further listener of the socket.
func (s *socket) share() net.Listener {
	s.Helper()
	f, err := s.File()
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	ln, err := net.FileListener(f)
	if err != nil {
		s.Fatal(err)
	}
	return ln
}

// generation is one of the servers that follow each other on a socket.
type generation struct {
	answered atomic.Int64
	drain    func(context.Context, Drain) error
	served   chan error
}

// succeed replaces servers on s under the load of clients, each a function
// that makes one request, and returns how many requests were answered. None
// may fail.
func (s *socket) succeed(d Drain, start func(net.Listener, *generation), clients ...func() error) int64 {
	s.Helper()
	next := func() *generation {
		g := &generation{served: make(chan error, 1)}
		start(s.share(), g)
		return g
	}
	now := next()
	stop := make(chan struct{})
	var load, drains sync.WaitGroup
	var total atomic.Int64
	for i, request := range clients {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := request(); err != nil {
					s.Errorf("client %d lost a request: %v", i, err)
				}
				total.Add(1)
			}
		})
	}
	end := func(g *generation) {
		drains.Go(func() {
			if err := g.drain(context.Background(), d); err != nil {
				s.Errorf("drain: %v", err)
			}
			if err := <-g.served; err != nil {
				s.Errorf("serve: %v", err)
			}
		})
	}
	for range swaps {
		waittest.Until(s, "the new server answers", func() bool { return now.answered.Load() > 20 })
		before := now
		now = next()
		end(before)
	}
	waittest.Until(s, "the last server answers", func() bool { return now.answered.Load() > 20 })
	drains.Wait()
	close(stop)
	load.Wait()
	end(now)
	drains.Wait()
	return total.Load()
}

// certificate returns the two sides' TLS configurations.
func certificate(tb testing.TB) (server, client *tls.Config) {
	tb.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}},
		&tls.Config{RootCAs: pool, ServerName: "example.com"}
}

// protocol is a way to speak HTTP: its server's side and its client's.
type protocol struct {
	name, proto string
	server      func(*http.Server)
	listener    func(net.Listener) net.Listener
	transport   func() *http.Transport
	scheme      string
}

func protocols(tb testing.TB) []protocol {
	tb.Helper()
	serverTLS, clientTLS := certificate(tb)
	plain := func(ln net.Listener) net.Listener { return ln }
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	return []protocol{
		{"http1", "HTTP/1.1", func(*http.Server) {}, plain, func() *http.Transport { return &http.Transport{} }, "http://"},
		{"h2c", "HTTP/2.0", func(s *http.Server) { s.Protocols = both }, plain, func() *http.Transport { return &http.Transport{Protocols: h2c} }, "http://"},
		{"h2", "HTTP/2.0", func(*http.Server) {}, func(ln net.Listener) net.Listener { return tls.NewListener(ln, serverTLS) },
			func() *http.Transport {
				return &http.Transport{TLSClientConfig: clientTLS.Clone(), ForceAttemptHTTP2: true}
			}, "https://"},
	}
}

// client is a client of its own, so with connections of its own.
func (p protocol) client(tb testing.TB) *http.Client {
	t := p.transport()
	tb.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// request makes one request of c and checks the whole answer.
func (p protocol) request(c *http.Client, method, addr, body string) error {
	req, err := http.NewRequest(method, p.scheme+addr, strings.NewReader(body))
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if string(got) != "ok "+body || res.Proto != p.proto {
		return fmt.Errorf("%s %s %q, want %s and %q", res.Proto, res.Status, got, p.proto, "ok "+body)
	}
	return nil
}

func TestRequestsUnderLoadSurviveDrains(t *testing.T) {
	for _, p := range protocols(t) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := newSocket(t)
			addr := s.Addr().String()
			start := func(ln net.Listener, g *generation) {
				srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					_, _ = fmt.Fprintf(w, "ok %s", body)
					g.answered.Add(1)
				})}
				p.server(srv)
				h := NewHTTPServer(srv)
				g.drain = h.Drain
				go func() { g.served <- h.Serve(p.listener(ln)) }()
			}
			var clients []func() error
			for i := range 6 {
				method, body := http.MethodGet, ""
				if i%2 == 0 {
					method, body = http.MethodPost, "a body that is longer than a word"
				}
				c := p.client(t)
				clients = append(clients, func() error { return p.request(c, method, addr, body) })
			}
			for range 6 { // clients that pause, so that they are idle at every point of a drain
				c := p.client(t)
				clients = append(clients, func() error {
					<-time.After(rand.N(700 * time.Millisecond))
					return p.request(c, http.MethodPost, addr, "after a pause")
				})
			}
			for range 2 {
				clients = append(clients, func() error {
					c := p.client(t)
					defer c.CloseIdleConnections()
					return p.request(c, http.MethodPost, addr, "over a new connection")
				})
			}
			n := s.succeed(Drain{}, start, clients...)
			t.Logf("%d requests in %d drains", n, swaps+1)
		})
	}
}
