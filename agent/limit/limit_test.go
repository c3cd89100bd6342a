package limit

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a protected server that really serves.
type site struct {
	testing.TB
	addr string

	mu      sync.Mutex
	refused map[Reason]int
	last    Refusal
}

func serve(tb testing.TB, limits Limits, secure *tls.Config, handler http.HandlerFunc) *site {
	tb.Helper()
	s := &site{TB: tb, refused: map[Reason]int{}}
	guard, err := New(Config{Limits: limits, OnRefuse: func(r Refusal) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refused[r.Reason]++
		s.last = r
	}})
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s.addr = ln.Addr().String()
	if secure != nil {
		ln = tls.NewListener(ln, secure)
	}
	srv := &http.Server{Handler: guard.Handler(handler)} //nolint:gosec // Protect sets the times
	guard.Protect(srv)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	tb.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			tb.Error(err)
		}
	})
	return s
}

func (s *site) counted() map[Reason]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.refused)
}

func (s *site) dial() net.Conn {
	s.Helper()
	conn, err := new(net.Dialer).DialContext(s.Context(), "tcp", s.addr)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.Fatal(err)
	}
	return conn
}

// sends returns a connection on which text was sent.
func (s *site) sends(text string) net.Conn {
	s.Helper()
	conn := s.dial()
	if _, err := io.WriteString(conn, text); err != nil {
		s.Fatal(err)
	}
	return conn
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

// ends expects that the other side closes the connection.
func (s *site) ends(conn net.Conn, what string) {
	s.Helper()
	_, err := io.Copy(io.Discard, conn)
	if timeout, is := errors.AsType[net.Error](err); is && timeout.Timeout() {
		s.Errorf("%s: the connection was kept", what)
	}
}

// TestBodyOfARefusedRequestDoesNotHoldItsConnection: net/http wants to read
// what the handler left, and here nothing else bounds how long.
func TestBodyOfARefusedRequestDoesNotHoldItsConnection(t *testing.T) {
	s := serve(t, Limits{Rate: 0.001, Burst: 1, BodyBytes: 10, HeaderTime: 300 * time.Millisecond, ReadTime: -1}, nil, ok)
	s.ends(s.sends("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx"), "a body that is too large")
	s.ends(s.sends("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx"), "one that asks too often")
	if got := s.counted(); got[Size] != 1 || got[Rate] != 1 {
		t.Errorf("counted %v, want one of size and one of rate", got)
	}
}

// TestClientThatDoesNotReadItsAnswerIsCutOff: its handler would hang in Write
// for ever, with its place among the requests in progress.
func TestClientThatDoesNotReadItsAnswerIsCutOff(t *testing.T) {
	wrote := make(chan error, 1)
	s := serve(t, Limits{WriteTime: 300 * time.Millisecond}, nil, func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for piece := make([]byte, 1<<20); err == nil; {
			_, err = w.Write(piece)
		}
		wrote <- err
	})
	s.sends("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := waittest.Next(t, "the end of an answer that nobody reads", wrote); err == nil {
		t.Error("an answer without end was written")
	}
}

// TestOnePeerCannotKeepTheProcessorBusyWithHandshakes: each costs more than a
// request, and no request is made.
func TestOnePeerCannotKeepTheProcessorBusyWithHandshakes(t *testing.T) {
	ca := certtest.New(t, "ca")
	cert, key := ca.Issue(t, "agent")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, Limits{Rate: 0.001, Burst: 2}, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, ok)
	agreed := 0
	for range 10 {
		conn := tls.Client(s.dial(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is about its cost
		if conn.HandshakeContext(t.Context()) == nil {
			agreed++
		}
		_ = conn.Close()
	}
	if agreed != 4 {
		t.Errorf("%d handshakes of 10 were made, want 4", agreed)
	}
	waittest.Until(t, "the others are counted", func() bool { return s.counted()[Connections] == 6 })
	s.dial()
	waittest.Until(t, "this one, too", func() bool { return s.counted()[Connections] == 7 })
	if got := s.counted(); got[Handshake] != 0 {
		t.Errorf("what was closed on purpose counts as a failed handshake as well: %v", got)
	}
}

func TestFailedHandshakeIsCountedWithItsPeer(t *testing.T) {
	s := serve(t, Limits{}, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{}}}, ok)
	s.ends(s.sends("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "a client that speaks no TLS")
	waittest.Until(t, "it is counted", func() bool { return s.counted()[Handshake] == 1 })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last.Peer != "127.0.0.1" || s.last.Detail == "" {
		t.Errorf("told %+v", s.last)
	}
}

func TestRequestsBeyondTheirNumberGet503AndPlacesComeBack(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := serve(t, Limits{Requests: 1}, nil, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic(http.ErrAbortHandler)
		}
		entered <- struct{}{}
		<-leave
	})
	answer := func(conn net.Conn) string {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.TrimSpace(line)
	}
	first := s.sends("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	if got := answer(s.sends("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); !strings.Contains(got, "503") {
		t.Errorf("a second one at the same time gets %q", got)
	}
	close(leave)
	if got := answer(first); !strings.Contains(got, "200") {
		t.Errorf("the first gets %q", got)
	}
	s.ends(s.sends("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n"), "a handler that panics")
	go func() { <-entered }()
	if got := answer(s.sends("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); !strings.Contains(got, "200") {
		t.Errorf("after them one gets %q: a place was not given back", got)
	}
}

// TestFloodOfPeersIsRememberedInBoundedMemory, and takes nothing from those who
// were here before.
func TestFloodOfPeersIsRememberedInBoundedMemory(t *testing.T) {
	p, now := newPeers(1, 2, 100), time.Now()
	spend := func(peer string) (allowed int) {
		for p.allow(peer, 1, now) {
			allowed++
		}
		return allowed
	}
	if got := spend("known"); got != 2 {
		t.Fatalf("%d requests at once, want 2", got)
	}
	allowed := 0
	for i := range 10_000 {
		if p.allow(fmt.Sprint("peer ", i), 1, now) {
			allowed++
		}
	}
	if len(p.table) != 100 || allowed != 99+2 {
		t.Errorf("%d peers are remembered, %d requests allowed; want 100, and 99 and the 2 that the rest share", len(p.table), allowed)
	}
	if got := spend("newcomer"); got != 0 {
		t.Errorf("a newcomer gets %d of what the rest has used up", got)
	}
	if now = now.Add(1500 * time.Millisecond); spend("known") != 1 {
		t.Error("who was known before the flood has not their own allowance")
	}
	now = now.Add(time.Second) // all but the known one have theirs whole again
	if got := spend("newcomer"); got != 2 {
		t.Errorf("after the flood a newcomer gets %d, want 2", got)
	}
	if len(p.table) != 2 {
		t.Errorf("%d peers are remembered after the flood, want the known one and the newcomer", len(p.table))
	}
}

func TestOneCostsMoreThanItsAllowanceCanBeAskedFor(t *testing.T) {
	p, now := newPeers(1, 5, 10), time.Now()
	if !p.allow("a", 20, now) || p.allow("a", 1, now) {
		t.Error("want a request that costs more than the whole allowance to take the whole of it")
	}
}

func TestPeerIsWhoeverHasTheAddressOrItsNetwork(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1":          "192.0.2.1",
		"::ffff:192.0.2.1":   "192.0.2.1",
		"2001:db8:1:2:3::4":  "2001:db8:1:2::/64",
		"2001:db8:1:2:ff::1": "2001:db8:1:2::/64",
	} {
		if got := Address(&net.TCPAddr{IP: net.ParseIP(text), Port: 1}); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	if got := Address(&net.UnixAddr{Name: "/x", Net: "unix"}); got != "unix" {
		t.Errorf("a Unix socket is %q", got)
	}
}

func TestLimitsThatMeanNothingAreRefused(t *testing.T) {
	for name, l := range map[string]Limits{
		"negative": {Rate: -1}, "no number": {Rate: math.NaN()}, "negative bytes": {BodyBytes: -1}, "negative time": {HeaderTime: -1},
	} {
		if _, err := New(Config{Limits: l}); err == nil {
			t.Errorf("%s: %+v is taken", name, l)
		}
	}
	g, err := New(Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil || g.limits.ConnsPerPeer != 64 || g.limits.Burst != 200 || g.limits.ReadTime != 15*time.Second || g.limits.WriteTime != time.Minute {
		t.Errorf("the defaults are %+v, %v", g.limits, err)
	}
}
