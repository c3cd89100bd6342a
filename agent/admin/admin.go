package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perennial-go/perennial/agent/limit"
)

// Config describes the listener. Address is required; New says what else an
// address needs.
type Config struct {
	// Address is "host:port", port 0 taking a free one, or "unix:/path". The
	// directory of a Unix socket must exist and not be writable for everybody.
	Address string
	// CertFile and KeyFile turn TLS on: PEM files of the listener's certificate
	// with its chain and of its key, mode 0600. ClientCAFile has the
	// authorities that vouch for client certificates. All are read anew when
	// they change; one that is not in order leaves what was read before.
	CertFile, KeyFile, ClientCAFile string
	// Tokens says which bearer tokens count; the zero value takes none.
	Tokens Tokens
	// Allow grants roles. Without any, and without tokens, everybody on
	// loopback may Read; on a Unix socket the agent's user and root may Operate
	// in any case.
	Allow []Grant
	// Hosts are names, without port, by which the listener may be called on
	// loopback beside loopback's own, as by a proxy in front of it.
	Hosts []string
	// Limits bound what calls can cost. Limits.Rate counts a call of a route
	// for Probe once, for Read 5 times, for Operate 20 times.
	Limits limit.Limits
	// Logger gets what is refused; nil discards.
	Logger *slog.Logger
}

// How long a call may take, and how many of a role may be in progress: a few
// slow readers must not keep probes waiting.
const (
	// QuickTime bounds calls of routes for Probe and Read.
	QuickTime = 30 * time.Second
	// OperateTime bounds those for Operate: a profile of 30 s and more.
	OperateTime = 5 * time.Minute

	maxReading   = 16
	maxOperating = 4

	costRead    = 5
	costOperate = 20
)

// Server answers on the admin listener. Its methods may be called concurrently.
type Server struct {
	cfg      Config
	policy   *policy
	guard    *limit.Guard
	refusals *refusals
	watch    *watch
	mux      *http.ServeMux
	handler  http.Handler
	origin   *http.CrossOriginProtection
	// slots of Read and Operate; those of Probe are the guard's.
	reading, operating chan struct{}
}

// New checks cfg, reads its files, and starts nothing.
func New(cfg Config) (*Server, error) {
	cfg.Allow, cfg.Hosts = slices.Clone(cfg.Allow), slices.Clone(cfg.Hosts)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p, err := newPolicy(cfg)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	s := &Server{
		cfg: cfg, policy: p, refusals: newRefusals(cfg.Logger), watch: &watch{policy: p, log: cfg.Logger},
		mux: http.NewServeMux(), origin: http.NewCrossOriginProtection(),
		reading: make(chan struct{}, maxReading), operating: make(chan struct{}, maxOperating),
	}
	if s.guard, err = limit.New(limit.Config{Limits: cfg.Limits, Peer: peerName, Logger: cfg.Logger, OnRefuse: s.limited}); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	s.handler = s.guard.Handler(http.HandlerFunc(s.admit))
	return s, nil
}

// Handle has h answer calls of pattern, as http.ServeMux takes it, by those who
// have at least the role. h's context ends after QuickTime, or OperateTime
// where role is Operate, and has what CallerOf and RoleOf tell.
func (s *Server) Handle(pattern string, role Role, h http.Handler) (err error) {
	if role <= None || role > Operate {
		return fmt.Errorf("admin: route %q for %v: want probe, read or operate", pattern, role)
	}
	defer func() {
		if v := recover(); v != nil { // so ServeMux refuses a pattern
			err = fmt.Errorf("admin: route %q: %v", pattern, v)
		}
	}()
	s.mux.Handle(pattern, &route{server: s, role: role, next: h})
	return nil
}

// Metrics counts what is refused.
func (s *Server) Metrics() prometheus.Collector { return s.refusals.counted }

// ListenFunc opens a listener; upgrade.Upgrader.ListenWith is one.
type ListenFunc func(options net.ListenConfig, name, network, addr string) (net.Listener, error)

// ListenerName is the listener's name for a predecessor and the service
// manager (LISTEN_FDNAMES).
const ListenerName = "admin"

// Listen opens the listener, with TLS where it is configured.
func (s *Server) Listen(listen ListenFunc) (net.Listener, error) {
	e, mode := s.policy.endpoint, s.policy.socketMode()
	if e.reach == reachSocket {
		if err := checkSocketDir(e.addr); err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
	}
	ln, err := listen(listenMode(mode), ListenerName, e.network, e.addr)
	if err != nil {
		return nil, fmt.Errorf("admin: want to listen on %s: %w", s.cfg.Address, err)
	}
	err = e.within(ln.Addr())
	if err == nil && e.reach == reachSocket {
		err = settle(e.addr, mode)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("admin: %w", err), ln.Close())
	}
	if s.policy.files != nil {
		ln = tls.NewListener(ln, tlsConfig(s.policy.files, s.policy.asks))
	}
	return ln, nil
}

// HTTPServer returns a new server for the listener.
func (s *Server) HTTPServer() *http.Server {
	srv := &http.Server{
		Handler: s,
		// HTTP/2 gains nothing for a scrape now and then, and costs all that
		// can be done with it: resets, header tables, control frames.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if user, ok := socketPeer(c); ok {
				return context.WithValue(ctx, peerKey{}, user)
			}
			return ctx
		},
	}
	s.guard.Protect(srv)
	return srv
}

type peerKey struct{}

func peerName(c net.Conn) string {
	if user, ok := socketPeer(c); ok {
		return kindUID + user.uid
	}
	return limit.Address(c.RemoteAddr())
}

// ServeHTTP judges a call and has the route's handler answer it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	s.watch.look()
	s.handler.ServeHTTP(w, r)
}

// admit tells who calls, before anything is told about routes.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) {
	if s.policy.reach == reachLoopback && !goodHost(r.Host, s.policy.hosts) {
		s.refuse(w, r, http.StatusMisdirectedRequest, refused{reason: ReasonHost, why: "the Host header names " + clip(r.Host)},
			"this listener is not called so: call it by a loopback name, such as 127.0.0.1, or add the name to its hosts")
		return
	}
	who, reason, err := s.policy.identify(r, time.Now())
	if err != nil {
		s.refuse(w, r, http.StatusUnauthorized, refused{reason: reason, why: err.Error()}, err.Error())
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), callerKey{}, who))
	if who.role < Probe { // not even told which routes there are
		s.Demand(w, r, Probe)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Demand refuses a call whose caller has not the role, for handlers that show
// some callers more than others.
func (s *Server) Demand(w http.ResponseWriter, r *http.Request, role Role) {
	who, _ := r.Context().Value(callerKey{}).(caller)
	if !who.shown {
		s.refuse(w, r, http.StatusUnauthorized, refused{reason: ReasonCredentials, why: "wants " + role.String()}, "this wants the role "+role.String()+" and credentials that have it")
		return
	}
	s.refuse(w, r, http.StatusForbidden, refused{reason: ReasonRole, caller: who.name, why: "has " + who.role.String() + ", wants " + role.String()}, "this wants the role "+role.String()+", and yours is "+who.role.String())
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, told refused, text string) {
	told.peer, told.path = limit.PeerOf(r), r.URL.Path
	s.refusals.add(told)
	if status == http.StatusUnauthorized && s.policy.tokens != nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="perennial"`)
	}
	http.Error(w, text, status)
}

func (s *Server) limited(r limit.Refusal) {
	s.refusals.add(refused{reason: Reason(r.Reason), peer: r.Peer, path: r.Path, why: r.Detail})
}
