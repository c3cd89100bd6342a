package limit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Limits are the bounds of one server. The zero value of a field is its
// default; there is no value for "without bound".
type Limits struct {
	// Rate is how many requests a second one peer may make on average; default
	// 100. Burst is how many at once; default twice the rate. With TLS, whose
	// handshake costs more than most requests, a peer may make twice as many
	// connections.
	Rate  float64
	Burst int
	// Peers bounds how many peers are told apart; default 1024.
	Peers int
	// Requests bounds those in progress; default 64. What comes beyond gets 503.
	Requests int
	// Conns bounds the open connections; default 256. ConnsPerPeer bounds
	// those of one peer; default a quarter of Conns. What comes beyond is closed.
	Conns, ConnsPerPeer int
	// HeaderBytes bounds the header of a request; default 16 KiB. net/http adds
	// 4 KiB to it.
	HeaderBytes int
	// BodyBytes bounds the body; default 64 KiB.
	BodyBytes int64
	// HeaderTime bounds the reading of a header and the TLS handshake; default
	// 5 s. ReadTime bounds the reading of a whole request; default 15 s,
	// negative = the handler sees to it, on every path. IdleTime is how long a
	// connection without a request is kept; default 1 min.
	HeaderTime, ReadTime, IdleTime time.Duration
	// WriteTime bounds the time from the header of a request to the end of its
	// answer; default 1 min, negative = the handler sees to it. A handler may
	// set another write deadline by http.ResponseController.
	WriteTime time.Duration
}

func (l Limits) withDefaults() (Limits, error) {
	for name, v := range map[string]float64{
		"Rate": l.Rate, "Burst": float64(l.Burst), "Peers": float64(l.Peers), "Requests": float64(l.Requests),
		"Conns": float64(l.Conns), "ConnsPerPeer": float64(l.ConnsPerPeer), "HeaderBytes": float64(l.HeaderBytes),
		"BodyBytes": float64(l.BodyBytes), "HeaderTime": float64(l.HeaderTime), "IdleTime": float64(l.IdleTime),
	} {
		if !(v >= 0) { // NaN neither
			return l, fmt.Errorf("limit: %s is %v: want 0 for the default or more", name, v)
		}
	}
	or(&l.Rate, 100)
	or(&l.Burst, max(1, int(min(2*l.Rate, 1<<30))))
	or(&l.Peers, 1024)
	or(&l.Requests, 64)
	or(&l.Conns, 256)
	or(&l.ConnsPerPeer, max(1, l.Conns/4))
	or(&l.HeaderBytes, 16<<10)
	or(&l.BodyBytes, 64<<10)
	or(&l.HeaderTime, 5*time.Second)
	or(&l.ReadTime, 15*time.Second)
	or(&l.IdleTime, time.Minute)
	or(&l.WriteTime, time.Minute)
	return l, nil
}

func or[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Reason says which bound a refusal is about.
type Reason string

// The reasons.
const (
	// Rate: the peer asks too often; 429.
	Rate Reason = "rate"
	// Busy: too many requests are in progress; 503.
	Busy Reason = "busy"
	// Connections: too many are open, or the peer makes them too often with
	// TLS; the connection is closed.
	Connections Reason = "connections"
	// Malformed: what came was no complete request in time: broken, with too
	// large a header, or too slow. net/http answers 4xx or closes.
	Malformed Reason = "malformed"
	// Handshake: TLS could not be agreed on; the connection is closed.
	Handshake Reason = "handshake"
	// Size: the body is too large; 413.
	Size Reason = "size"
)

// Reasons lists all of them.
func Reasons() []Reason { return []Reason{Rate, Busy, Connections, Malformed, Handshake, Size} }

// Refusal is one request or connection that was refused.
type Refusal struct {
	Reason Reason
	// Peer is who is counted: an address, or what Config.Peer says.
	Peer string
	// Path is the request's; empty where there was none.
	Path string
	// Detail says more, fit for a log; may be empty.
	Detail string
}

// Config is what a Guard is made of.
type Config struct {
	Limits Limits
	// Peer names the client of a connection for its allowance; nil takes its
	// address. It must be quick.
	Peer func(net.Conn) string
	// OnRefuse is called for each refusal, concurrently; it must be quick. May
	// be nil.
	OnRefuse func(Refusal)
	// Logger gets what net/http complains about, at level debug; nil discards.
	Logger *slog.Logger
}

// Guard enforces Limits on one server. Its methods may be called concurrently.
type Guard struct {
	limits Limits
	cfg    Config
	peers  *peers // for requests
	comers *peers // for connections with TLS
	conns  conns
	slots  atomic.Int64
}

// New checks cfg and makes a Guard.
func New(cfg Config) (*Guard, error) {
	limits, err := cfg.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Peer == nil {
		cfg.Peer = func(c net.Conn) string { return Address(c.RemoteAddr()) }
	}
	if cfg.OnRefuse == nil {
		cfg.OnRefuse = func(Refusal) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Guard{
		limits: limits, cfg: cfg,
		peers:  newPeers(limits.Rate, limits.Burst, limits.Peers),
		comers: newPeers(2*limits.Rate, int(min(2*float64(limits.Burst), 1<<30)), limits.Peers),
		conns:  conns{open: map[net.Conn]*connection{}, perPeer: map[string]int{}},
	}, nil
}

// Protect sets the bounds of srv that a handler cannot: sizes and times of
// headers, and connections. It keeps srv's own ConnState and ConnContext, and
// replaces its ErrorLog. srv.Handler should be one that Handler returned.
func (g *Guard) Protect(srv *http.Server) {
	srv.MaxHeaderBytes = g.limits.HeaderBytes
	srv.ReadHeaderTimeout, srv.IdleTimeout = g.limits.HeaderTime, g.limits.IdleTime
	if g.limits.ReadTime > 0 {
		srv.ReadTimeout = g.limits.ReadTime
	}
	if g.limits.WriteTime > 0 {
		srv.WriteTimeout = g.limits.WriteTime
	}
	srv.DisableGeneralOptionsHandler = true // it would answer before any handler
	told, own := srv.ConnState, srv.ConnContext
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if own != nil {
			ctx = own(ctx, c)
		}
		return context.WithValue(ctx, connectionKey{}, g.begin(c))
	}
	srv.ConnState = func(c net.Conn, s http.ConnState) {
		g.follow(c, s)
		if told != nil {
			told(c, s)
		}
	}
	srv.ErrorLog = slog.NewLogLogger(complaints{g.cfg.Logger.Handler(), g}, slog.LevelDebug)
}

// Handler bounds the rate of each peer, the number of requests in progress and
// the size of bodies, and then calls next.
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := connectionOf(r)
		if c != nil {
			c.handled.Add(1)
		}
		if !g.Spend(w, r, 1) {
			return
		}
		if g.slots.Add(1) > int64(g.limits.Requests) {
			g.slots.Add(-1)
			g.Busy(w, r)
			return
		}
		defer g.slots.Add(-1)
		if r.ContentLength > g.limits.BodyBytes {
			g.refuse(Size, w, r)
			http.Error(w, fmt.Sprintf("want a body of at most %d bytes, found %d", g.limits.BodyBytes, r.ContentLength), http.StatusRequestEntityTooLarge)
			return
		}
		if r.ContentLength != 0 {
			r.Body = &body{ReadCloser: http.MaxBytesReader(w, r.Body, g.limits.BodyBytes), refuse: func() { g.refuse(Size, w, r) }}
		}
		next.ServeHTTP(w, r)
	})
}

// Spend takes n requests from the allowance of r's peer. If it has not that
// many left, it answers 429 and returns false.
func (g *Guard) Spend(w http.ResponseWriter, r *http.Request, n int) bool {
	if g.peers.allow(PeerOf(r), n, time.Now()) {
		return true
	}
	g.refuse(Rate, w, r)
	w.Header().Set("Retry-After", "1")
	http.Error(w, fmt.Sprintf("too many requests: at most %g a second on average; try again in a second", g.limits.Rate), http.StatusTooManyRequests)
	return false
}

// Busy answers 503 and counts it, for handlers with bounds of their own.
func (g *Guard) Busy(w http.ResponseWriter, r *http.Request) {
	g.refuse(Busy, w, r)
	w.Header().Set("Retry-After", "1")
	http.Error(w, "too many requests are in progress: try again in a second", http.StatusServiceUnavailable)
}

func (g *Guard) refuse(reason Reason, w http.ResponseWriter, r *http.Request) {
	// net/http reads on in a body that nobody wants, and without a ReadTime for
	// as long as the client takes.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.limits.HeaderTime)) // not of every server
	g.cfg.OnRefuse(Refusal{Reason: reason, Peer: PeerOf(r), Path: r.URL.Path})
}

// body tells of a body that is too large, once.
type body struct {
	io.ReadCloser
	refuse func()
	told   bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	var large *http.MaxBytesError
	if !b.told && errors.As(err, &large) {
		b.told = true
		b.refuse()
	}
	return n, err
}

// complaints are net/http's own log lines.
type complaints struct {
	slog.Handler
	guard *Guard
}

// handshakeLine begins what net/http logs of a failed handshake; nothing else
// tells of one.
const handshakeLine = "http: TLS handshake error from "

func (c complaints) Handle(ctx context.Context, r slog.Record) error {
	// One that this side has closed was counted as what it was closed for.
	if rest, ok := strings.CutPrefix(r.Message, handshakeLine); ok && !strings.Contains(rest, net.ErrClosed.Error()) {
		remote, detail, _ := strings.Cut(rest, ": ")
		host, _, err := net.SplitHostPort(remote)
		if err != nil {
			host = remote
		}
		c.guard.cfg.OnRefuse(Refusal{Reason: Handshake, Peer: host, Detail: detail})
	}
	if !c.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return c.Handler.Handle(ctx, r)
}

// Enabled has every line looked at, whether it is logged or not.
func (complaints) Enabled(context.Context, slog.Level) bool { return true }

func (c complaints) WithAttrs(a []slog.Attr) slog.Handler {
	return complaints{c.Handler.WithAttrs(a), c.guard}
}

func (c complaints) WithGroup(name string) slog.Handler {
	return complaints{c.Handler.WithGroup(name), c.guard}
}
