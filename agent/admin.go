package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/perennial-go/perennial/agent/admin"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/redact"
	"github.com/perennial-go/perennial/upgrade"
)

// adminSite is the admin listener of one process. A nil one does nothing.
//
// It answers from before the program's Start until all has ended, so that a
// probe is told "not ready" and never finds nobody. While a successor is
// started its incumbent answers: the successor has the socket from the
// beginning, and accepts once its program has started.
type adminSite struct {
	log    *slog.Logger
	server *admin.Server
	http   *upgrade.HTTPServer

	mu       sync.Mutex
	listener net.Listener // nil before open
	serving  bool

	tasks sync.WaitGroup
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
	s := &adminSite{log: cfg.Logger, server: server, http: upgrade.NewHTTPServer(server.HTTPServer())}
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
		{"GET /v1/status", admin.Read, http.HandlerFunc(a.serveStatus)},
		{"GET /v1/alerts", admin.Read, shown(func() any {
			return map[string]any{"alerts": a.health.Alerts(), "recent": append([]health.AlertEvent{}, a.health.RecentAlerts()...)}
		})},
		{"GET /v1/diagnose", admin.Operate, http.HandlerFunc(a.serveDiagnosis)},
		{"GET /debug/pprof/", admin.Operate, http.HandlerFunc(pprof.Index)},
		{"GET /debug/pprof/cmdline", admin.Operate, http.HandlerFunc(serveCommandLine)},
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

// serveCommandLine is pprof.Cmdline without what looks like a secret.
func serveCommandLine(w http.ResponseWriter, _ *http.Request) {
	args, _ := redact.CommandLine(os.Args)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, strings.Join(args, "\x00")) // a client that has gone needs no answer
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
	s.tasks.Go(func() {
		if err := s.http.Serve(s.listener); err != nil {
			// The agent goes on without: its work does not depend on it.
			s.log.Error("the admin listener has failed", "error", err)
		}
	})
}

// leave begins to let the clients go to a successor, which has the socket.
func (s *adminSite) leave(d upgrade.Drain) {
	if s != nil {
		s.tasks.Go(func() { s.drain(d) })
	}
}

func (s *adminSite) drain(d upgrade.Drain) {
	if err := s.http.Drain(context.Background(), d); err != nil {
		s.log.Info("clients of the admin listener were cut off", "error", err)
	}
}

// end closes the listener and waits for what is in progress, for a moment:
// nobody is left to answer for.
func (s *adminSite) end() {
	if s == nil {
		return
	}
	s.drain(upgrade.Drain{Tail: time.Millisecond, Idle: time.Millisecond, Streams: time.Millisecond, Timeout: time.Second})
	s.tasks.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil && !s.serving {
		_ = s.listener.Close() // the socket is its incumbent's
	}
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
