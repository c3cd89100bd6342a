package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/upgrade"
)

// settings is the configuration of the agent: each of its documents counts up
// a value of its own.
type settings struct {
	Values map[string]int `yaml:"values"`
}

// setup is what the process of an agent is told.
type setup struct {
	ID, StateDir string
	Etcd         agent.EtcdConfig
	TTL, Beat    time.Duration
}

const group = "web"

// state is what the agent answers when it is asked.
type state struct {
	Agent  agent.Registration
	Health health.Report
	Config config.Status
	Values map[string]int
	// Revision is that of the configuration in force, Applied how often one
	// came into force.
	Revision int64
	Applied  int
	// Odd are configurations that came into force although nothing in them
	// had changed.
	Odd []string
}

// program is the agent's own part.
type program struct {
	setup
	store *config.Store[settings]

	mu      sync.Mutex
	applied int
	odd     []string
}

// run is the agent process, until its standard input ends, as it does with the
// test that started it.
func (s setup) run() error {
	p := &program{setup: s}
	var err error
	p.store, err = config.New(config.Config[settings]{LoadTimeout: 2 * time.Second})
	if err != nil {
		return err
	}
	values := func(s *settings) map[string]int { return s.Values }
	if _, err := config.Sub(p.store, "values", values, p.changed); err != nil {
		return err
	}
	a, err := agent.New(agent.Config{
		ID: s.ID, Version: "1.0.0", Groups: []string{group}, StateDir: s.StateDir,
		Etcd: s.Etcd,
		TTL:  s.TTL, HeartbeatEvery: s.Beat, ConnectTimeout: 30 * time.Second,
		Settings: p.store, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Upgrade: upgrade.Config{CheckEvery: -1}, Drain: upgrade.Drain{Idle: time.Millisecond},
		Start: p.start,
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	return a.Run(ctx)
}

func (p *program) start(_ context.Context, a *agent.Agent) error {
	ln, err := a.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", a.Health().Handler())
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(p.state(a)) //nolint:errchkjson // the one who asks is gone
	})
	a.ServeHTTP(ln, &http.Server{Handler: mux})
	return os.WriteFile(filepath.Join(p.StateDir, "address"), []byte(ln.Addr().String()), 0o600)
}

func (p *program) state(a *agent.Agent) state {
	now := p.store.Snapshot()
	p.mu.Lock()
	defer p.mu.Unlock()
	return state{
		Agent: a.Info(), Health: a.Health().Report(), Config: p.store.Status(),
		Values: now.Value.Values, Revision: now.Revision, Applied: p.applied, Odd: p.odd,
	}
}

// changed notes what is not a change.
func (p *program) changed(_ context.Context, old, now map[string]int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied++
	if p.applied > 1 && maps.Equal(old, now) {
		p.odd = append(p.odd, fmt.Sprint(now))
	}
	return nil
}
