package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/upgrade"
)

// build is what a copy of the test binary carries: a release of the test
// agent.
type build struct {
	Version string `json:"version"`
	// Sick makes the release fail a readiness check.
	Sick bool `json:"sick,omitempty"`
}

// agentEnv configures a test agent; it travels in an environment variable.
type agentEnv struct {
	ID, Etcd, StateDir, Repository, Key string
	TTL, Connect                        time.Duration
	Supervise                           upgrade.Supervision
}

const agentVariable = "PERENNIAL_TEST_AGENT"

func TestMain(m *testing.M) {
	var b build
	err := reexec.Payload(&b)
	if errors.Is(err, reexec.ErrNoPayload) {
		goleak.VerifyTestMain(m)
	}
	if err == nil {
		err = testAgent(b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "test agent:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type testSettings struct {
	Greeting string `yaml:"greeting"`
}

// testAgent is a small host program: it greets over HTTP as its
// configuration says.
func testAgent(b build) error {
	var env agentEnv
	if err := json.Unmarshal([]byte(os.Getenv(agentVariable)), &env); err != nil {
		return err
	}
	store, err := config.New(config.Config[testSettings]{Default: testSettings{Greeting: "hello"}, LoadTimeout: env.Connect})
	if err != nil {
		return err
	}
	source, err := upgrade.NewSource(env.Repository)
	if err != nil {
		return err
	}
	key, err := upgrade.ParsePublicKey([]byte(env.Key))
	if err != nil {
		return err
	}
	cfg := Config{
		ID: env.ID, Name: "demo", Version: b.Version, Groups: []string{"web"}, Labels: map[string]string{"env": "test"},
		Etcd: EtcdConfig{Endpoints: []string{env.Etcd}}, StateDir: env.StateDir,
		TTL: env.TTL, HeartbeatEvery: env.TTL / 5, ConnectTimeout: env.Connect,
		Supervise: env.Supervise,
		Settings:  store, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Upgrade: upgrade.Config{Source: source, Probation: 500 * time.Millisecond, HealthEvery: 50 * time.Millisecond},
		Drain:   upgrade.Drain{Idle: time.Millisecond},
		Start: func(_ context.Context, a *Agent) error {
			ln, err := a.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			mux := http.NewServeMux()
			mux.Handle("/readyz", a.Health().Handler())
			mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, store.Snapshot().Value.Greeting)
			})
			a.ServeHTTP(ln, &http.Server{Handler: mux})
			return os.WriteFile(env.StateDir+"/address", []byte(ln.Addr().String()), 0o600)
		},
	}
	cfg.Upgrade.Trust.Keys = append(cfg.Upgrade.Trust.Keys, key)
	if b.Sick {
		cfg.Health.Checks = []health.Check{{Name: "disk", Func: func(context.Context) error { return errors.New("always sick") }}}
	}
	a, err := New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := a.Run(ctx); !errors.Is(err, ErrSuperseded) {
		return err
	}
	return nil
}
