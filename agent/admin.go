package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/perennial-go/perennial/agent/admin"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/upgrade"
)

// adminSite is the admin listener of one process. A nil one does nothing.
//
// It answers from before the program's Start until all has ended, so that a
// probe is told "not ready" and never finds nobody. While a successor is
// started its incumbent answers: the successor has the socket from the
// beginning, and accepts once its program has started.
type adminSite struct {
	server *admin.Server
	http   *upgrade.HTTPServer

	mu       sync.Mutex
	listener net.Listener // nil before open
	serving  bool
	tasks    sync.WaitGroup
	errs     []error // of serving and draining; read when tasks has ended
	fail     func(error)
}

func newAdminSite(a *Agent) (*adminSite, error) {
	cfg := a.cfg.Admin
	if cfg.Logger == nil {
		cfg.Logger = a.log
	}
	server, err := admin.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if err := a.health.Registry().Register(server.Metrics()); err != nil {
		return nil, fmt.Errorf("agent: metrics of the admin listener: %w", err)
	}
	s := &adminSite{server: server, http: upgrade.NewHTTPServer(server.HTTPServer())}
	return s, s.mount(a)
}

// mount gives the agent's own routes to the listener.
func (s *adminSite) mount(a *Agent) error {
	tree := a.health.Handler()
	probes := s.probes(tree)
	for _, route := range []struct {
		pattern string
		role    admin.Role
		handler http.Handler
	}{
		{"GET /livez", admin.Probe, probes},
		{"GET /livez/", admin.Probe, probes},
		{"GET /readyz", admin.Probe, probes},
		{"GET /readyz/", admin.Probe, probes},
		{"GET /startupz", admin.Probe, probes},
		{"GET /startupz/", admin.Probe, probes},
		{"GET /metrics", admin.Read, tree},
		{"GET /v1/status", admin.Read, shown(func() any { return a.presence.status() })},
		{"GET /v1/alerts", admin.Read, shown(func() any {
			return map[string][]health.Alert{"alerts": append([]health.Alert{}, a.health.Report().Alerts...)}
		})},
		{"GET /debug/pprof/", admin.Operate, http.HandlerFunc(pprof.Index)},
		{"GET /debug/pprof/cmdline", admin.Operate, http.HandlerFunc(pprof.Cmdline)},
		{"GET /debug/pprof/profile", admin.Operate, http.HandlerFunc(pprof.Profile)},
		{"GET /debug/pprof/symbol", admin.Operate, http.HandlerFunc(pprof.Symbol)},
		{"GET /debug/pprof/trace", admin.Operate, http.HandlerFunc(pprof.Trace)},
	} {
		if err := s.server.Handle(route.pattern, route.role, route.handler); err != nil {
			return err
		}
	}
	return nil
}

// probes keeps reasons and figures from callers who may only probe. A question
// for them is refused; Accept, which clients send by habit, is left out.
func (s *adminSite) probes(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if admin.RoleOf(r.Context()) < admin.Read {
			r = r.Clone(r.Context())
			r.Header.Del("Accept")
			if health.Detailed(r) {
				s.server.Demand(w, r, admin.Read)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// shown sends what get returns as JSON.
func shown(get func() any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body, err := json.Marshal(get())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(body, '\n')) // a client that has gone needs no answer
	})
}

// open takes the socket. Nobody else answers for a process that is no
// successor, so it begins to serve.
func (s *adminSite) open(u *upgrade.Upgrader, successor bool) error {
	if s == nil {
		return nil
	}
	ln, err := s.server.Listen(u.ListenWith)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.listener = ln
	s.mu.Unlock()
	if !successor {
		s.serve()
	}
	return nil
}

// serve accepts from now on.
func (s *adminSite) serve() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving {
		return
	}
	s.serving = true
	s.background(func() error { return s.http.Serve(s.listener) })
}

func (s *adminSite) background(f func() error) {
	s.tasks.Go(func() {
		if err := f(); err != nil && !errors.Is(err, upgrade.ErrCutOff) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.errs = append(s.errs, err)
		}
	})
}

// leave begins to let the clients go to a successor, which has the socket.
func (s *adminSite) leave(d upgrade.Drain) {
	if s == nil {
		return
	}
	s.background(func() error { return s.http.Drain(context.Background(), d) })
}

// end closes the listener and waits for what is in progress, for a moment:
// nobody is left to answer for.
func (s *adminSite) end() error {
	if s == nil {
		return nil
	}
	d := upgrade.Drain{Tail: time.Millisecond, Idle: time.Millisecond, Streams: time.Millisecond, Timeout: time.Second}
	s.background(func() error { return s.http.Drain(context.Background(), d) })
	s.tasks.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil && !s.serving {
		s.errs = append(s.errs, s.listener.Close())
	}
	return errors.Join(s.errs...)
}

// AdminHandle has h answer calls of pattern, as http.ServeMux takes it, on the
// admin listener by those who have at least the role; see admin.Server.Handle.
// It may be called at any time. Without an admin listener it is an error.
func (a *Agent) AdminHandle(pattern string, role admin.Role, h http.Handler) error {
	if a.admin == nil {
		return errors.New("agent: there is no admin listener: set Config.Admin.Address")
	}
	return a.admin.server.Handle(pattern, role, h)
}

// AdminAddr is where the admin listener is, with the port that was taken; nil
// without one, and before Run has opened it.
func (a *Agent) AdminAddr() net.Addr {
	if a.admin == nil {
		return nil
	}
	a.admin.mu.Lock()
	defer a.admin.mu.Unlock()
	if a.admin.listener == nil {
		return nil
	}
	return a.admin.listener.Addr()
}
