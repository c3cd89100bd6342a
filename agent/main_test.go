package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// build is what a copy of the test binary carries: a release of the test
// agent.
type build struct {
	Version string `json:"version"`
	// Sick makes the release fail a readiness check.
	Sick bool `json:"sick,omitempty"`
	// Remembers makes the release hand over what it was handed; see memory.
	Remembers bool `json:"remembers,omitempty"`
	// Shouts is a byte of which the release fills its log before it crashes
	// in its probation.
	Shouts []byte `json:"shouts,omitempty"`
	// Plugin makes it a plugin of that name instead of an agent.
	Plugin string `json:"plugin,omitempty"`
	// Mute makes the release one that cannot talk to plugins.
	Mute bool `json:"mute,omitempty"`
}

// agentEnv configures a test agent; it travels in an environment variable.
type agentEnv struct {
	ID, Etcd, StateDir, Repository, Key string
	TTL, Connect                        time.Duration
	Spread, StatusEvery                 time.Duration // default 10 ms and the agent's
	// Failpoints of successors, by version. A first process is armed by a
	// POST to /arm, so that the steps of its start do not count.
	Failpoints map[string]string
	Probation  time.Duration // default 500 ms
	// Deadlock is a file; a liveness check hangs while it is there.
	Deadlock   string
	Supervise  upgrade.Supervision
	Notes      string        // file of noteCalls; may be empty
	CheckEvery time.Duration // default 1 h
	Plugins    string        // directory; may be empty
	Respond    []string      // to alerts, see addAlerts
	GRPC       bool          // serves health, see serveHealth
	// RemoteRollback is offered by default.
	RemoteRollback upgrade.RemoteRollback
	// Busy is a file; the program is busy while it is there.
	Busy  string
	Admin string // address of the admin listener; may be empty
	JSON  bool   // of the log
}

const agentVariable = "PERENNIAL_TEST_AGENT"

func TestMain(m *testing.M) {
	var b build
	err := reexec.Payload(&b)
	if errors.Is(err, reexec.ErrNoPayload) {
		if err = reexec.ExitAtOnce(); err == nil {
			goleak.VerifyTestMain(m)
		}
	}
	switch {
	case err != nil:
	case b.Plugin != "":
		err = testPlugin(b)
	default:
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
	if os.Getenv("TABLEFLIP_HAS_PARENT_7DIU3") != "" {
		if err := failpoint.Arm(env.Failpoints[b.Version]); err != nil {
			return err
		}
	}
	if env.Probation == 0 {
		env.Probation = 500 * time.Millisecond
	}
	if env.Spread == 0 {
		env.Spread = 10 * time.Millisecond
	}
	store, err := config.New(config.Config[testSettings]{Default: testSettings{Greeting: "hello"}, LoadTimeout: env.Connect})
	if err != nil {
		return err
	}
	source, err := release.NewSource(env.Repository)
	if err != nil {
		return err
	}
	key, err := release.ParsePublicKey([]byte(env.Key))
	if err != nil {
		return err
	}
	remembered := memory{version: b.Version}
	var handler slog.Handler = slog.NewTextHandler(os.Stderr, nil)
	if env.JSON {
		handler = slog.NewJSONHandler(os.Stderr, nil)
	}
	busy := func(context.Context) string {
		if _, err := os.Stat(env.Busy); env.Busy != "" && err == nil {
			return "a backup"
		}
		return ""
	}
	cfg := Config{
		ID: env.ID, Name: "demo", Version: b.Version, Groups: []string{"web"}, Labels: map[string]string{"env": "test"},
		Etcd: EtcdConfig{Endpoints: []string{env.Etcd}}, StateDir: env.StateDir,
		TTL: env.TTL, HeartbeatEvery: env.TTL / 5, ConnectTimeout: env.Connect,
		Spread: env.Spread, StatusEvery: env.StatusEvery,
		Supervise: env.Supervise,
		Settings:  store, Logger: slog.New(handler),
		Upgrade: upgrade.Config{Source: source, Probation: env.Probation, HealthEvery: 50 * time.Millisecond, SilentAfter: 5 * time.Second, CheckEvery: env.CheckEvery, RemoteRollback: env.RemoteRollback, Busy: busy},
		Drain:   upgrade.Drain{Idle: time.Millisecond},
		Start: func(_ context.Context, a *Agent) error {
			ln, err := a.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			mux := http.NewServeMux()
			mux.HandleFunc("POST /arm", func(w http.ResponseWriter, r *http.Request) {
				if err := failpoint.Arm(r.FormValue("spec")); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
				}
			})
			mux.Handle("/readyz", a.Health().Handler())
			mux.Handle("/metrics", a.Health().Handler())
			mux.Handle("/memory", remembered.handler())
			mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, store.Snapshot().Value.Greeting)
			})
			mux.HandleFunc("/echo", echo)
			mux.HandleFunc("POST /request", requested(a))
			if a.Plugins() != nil {
				mux.HandleFunc("/plugins", listPlugins(a))
				a.Go("collect", func(ctx context.Context) error { return collect(ctx, a, env.StateDir+"/"+collectedFile) })
			}
			a.ServeHTTP(ln, &http.Server{Handler: mux})
			if env.GRPC {
				if err := serveHealth(a, env.StateDir); err != nil {
					return err
				}
			}
			return atomicfile.Write(env.StateDir+"/address", []byte(ln.Addr().String()), 0o600) // it may be killed in the middle
		},
	}
	cfg.Admin.Address = env.Admin
	cfg.Upgrade.Trust.Keys = append(cfg.Upgrade.Trust.Keys, key)
	if cfg.Plugins.Dir = env.Plugins; b.Mute {
		cfg.Plugins.HealthTimeout = time.Nanosecond
	}
	if b.Remembers {
		cfg.State = &remembered
	}
	if b.Sick {
		cfg.Health.Checks = []health.Check{{Name: "disk", Func: func(context.Context) error { return errors.New("always sick") }}}
	}
	if len(b.Shouts) > 0 {
		cfg.Health.Checks = []health.Check{{Name: "shouts", Func: func(context.Context) error { return shout(b.Shouts) }}}
	}
	if env.Deadlock != "" {
		cfg.Health.Checks = append(cfg.Health.Checks, deadlockCheck(env.Deadlock))
	}
	if env.GRPC {
		cfg.Drain.Streams = 200 * time.Millisecond // what watches does not go by itself
		cfg.Health.Checks = append(cfg.Health.Checks, illCheck(env.StateDir, b.Version))
	}
	var a *Agent
	if len(env.Respond) > 0 {
		err := addAlerts(&cfg, env.Respond, func() bool {
			return !slices.Contains([]upgrade.State{"", upgrade.Idle}, a.Upgrades().State) && !a.Upgrades().State.Terminal()
		})
		if err != nil {
			return err
		}
	}
	if env.Notes != "" {
		noteCalls(&cfg, env.Notes)
	}
	if a, err = New(cfg); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	_ = stop // a signal that comes as the process ends is to change nothing
	if err := a.Run(ctx); !errors.Is(err, ErrSuperseded) {
		return err
	}
	return nil
}

// shout writes more than is kept of a log, and crashes.
func shout(what []byte) error {
	for range 100 {
		_, _ = os.Stderr.Write(append(bytes.Repeat(what, 1500), '\n'))
	}
	os.Exit(3)
	return nil
}
