package upgrade

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
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/upgrade/release"
)

// build is what a copy of the test binary carries at its end, so that each
// copy is another release with a digest and a character of its own.
type build struct {
	Version string `json:"version"`
	// Says is the version that the program believes to be; default Version.
	Says string `json:"says,omitempty"`
	// Fault is how the release is bad; see testAgent.
	Fault string `json:"fault,omitempty"`
	// State is what the program hands over; see testState. Empty: nothing.
	State string `json:"state,omitempty"`
}

// makeBinary writes a release's executable.
func makeBinary(tb testing.TB, b build) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "agent-"+b.Version)
	if err := reexec.Copy(path, b); err != nil {
		tb.Fatal(err)
	}
	return path
}

// agentEnv configures a test agent; it travels in agentVariable.
type agentEnv struct {
	StateDir, Repository, Key string
	Address                   string // file to which the address is written
	Probation                 time.Duration
	Failpoints                map[string]string // by version, from Serving on
	EarlyFailpoints           map[string]string // by version, from the start on
	BusyLimit                 time.Duration
	Accepts                   string                  // file in which accepted connections are noted; may be empty
	Sockets                   map[string][]testSocket // by version, besides the two of HTTP
	Supervise                 Supervision
	HealthEvery               time.Duration // default 50 ms
	Roots                     []string      // root keys in place of Key, two of which sign the keyring
	CheckEvery                time.Duration // default 1 h
	RemoteRollback            RemoteRollback
	AllowOlder                bool
	Cache                     string // directory of a cache in front of Repository; empty is none
	Pull                      release.PullPolicy
	Spans                     string // file in which spans are noted as they end
}

// testAgent is the smallest host program: an HTTP server that can be asked
// who it is and be told to upgrade.
func testAgent() error {
	var b build
	if err := reexec.Payload(&b); err != nil {
		return err
	}
	if b.Says == "" {
		b.Says = b.Version
	}
	startBadly(b.Fault)
	fmt.Fprintln(os.Stderr, "test agent", b.Version, "pid", os.Getpid())
	switch b.Fault {
	case "exit":
		return errors.New("fault: exits at once")
	case "panic":
		panic("fault: panics at start")
	case "keeper stops":
		err := endAfter(200 * time.Millisecond)
		return errors.Join(err, syscall.Kill(os.Getpid(), syscall.SIGSTOP))
	case "hang":
		select {}
	case "cold-exit":
		if cold() {
			return errors.New("fault: exits at once when it is started cold")
		}
	}
	var env agentEnv
	if err := json.Unmarshal([]byte(os.Getenv(agentVariable)), &env); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := failpoint.Arm(env.EarlyFailpoints[b.Version]); err != nil {
		return err
	}
	if b.Fault != "unsupervised" {
		done, err := Supervise(ctx, SuperviseConfig{StateDir: env.StateDir, Mode: env.Supervise, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		if done || err != nil {
			return err
		}
	}
	if b.Fault == "leaves" {
		return nil
	}
	noteSignals(env)
	host := &testHost{fault: b.Fault}
	seen := recordSpans(env)
	defer noteOpenSpans(env, seen)
	u, err := newTestUpgrader(env, b, host, seen)
	if err != nil {
		return err
	}
	if err := u.Open(ctx); err != nil {
		return err
	}
	err = serveTestAgent(ctx, u, env, b, host)
	err = errors.Join(err, u.Close())
	if errors.Is(err, ErrSuperseded) || ctx.Err() != nil {
		return nil
	}
	return err
}

func newTestUpgrader(env agentEnv, b build, host Host, spans trace.TracerProvider) (*Upgrader, error) {
	source, err := release.NewSource(env.Repository)
	if err != nil {
		return nil, err
	}
	if env.Cache != "" {
		if source, err = release.NewCache(release.CacheConfig{Dir: env.Cache, Source: source, Pull: env.Pull}); err != nil {
			return nil, err
		}
	}
	trust, err := testTrust(env)
	if err != nil {
		return nil, err
	}
	if env.HealthEvery == 0 {
		env.HealthEvery = 50 * time.Millisecond
	}
	state, stateTimeout := newTestState(b.State)
	return New(Config{
		Hooks: testHooks(env, b.Version), BusyLimit: env.BusyLimit, External: []string{"network"},
		Busy: func(context.Context) string {
			data, _ := os.ReadFile(filepath.Join(env.StateDir, "busy")) // absent when idle
			return string(data)
		},
		State: state, StateTimeout: stateTimeout,
		StateDir: env.StateDir, Name: "demo", Version: b.Says, Source: source, Trust: trust,
		Requirements: []release.Requirement{endorsed{env.StateDir}, quiet{env.StateDir}},
		StartTimeout: 8 * time.Second, Probation: env.Probation, HealthEvery: env.HealthEvery, SilentAfter: 3 * time.Second,
		Policy:     release.Policy{AllowOlder: env.AllowOlder},
		CheckEvery: env.CheckEvery, RemoteRollback: env.RemoteRollback, Host: host, TracerProvider: spans, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
}

func testTrust(env agentEnv) (trust release.Trust, err error) {
	for _, text := range env.Roots {
		root, err := release.ParsePublicKey([]byte(text))
		if err != nil {
			return trust, err
		}
		trust.Roots, trust.Threshold = append(trust.Roots, root), 2
	}
	if len(env.Roots) > 0 {
		return trust, nil
	}
	key, err := release.ParsePublicKey([]byte(env.Key))
	trust.Keys = append(trust.Keys, key)
	return trust, err
}

func serveTestAgent(ctx context.Context, u *Upgrader, env agentEnv, b build, host *testHost) error {
	if err := u.Restore(ctx); err != nil {
		return err
	}
	ln, err := u.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(env.Address, []byte(ln.Addr().String()), 0o600); err != nil {
		return err
	}
	second, err := u.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { _ = second.Close() }()
	sockets, err := openTestSockets(u, env, b)
	if err != nil {
		return err
	}
	defer sockets.close()
	server := NewHTTPServer(&http.Server{Handler: testHandler(u, b, second.Addr().String()), ConnState: noteAccepts(env.Accepts)})
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	goOnBadly(b.Fault)
	if b.Fault == "mute" {
		<-ctx.Done()
		return nil
	}
	if err := u.Serving(); err != nil {
		return err
	}
	// Armed now, so that the steps of a start do not count.
	if err := failpoint.Arm(env.Failpoints[b.Version]); err != nil {
		return err
	}
	err = u.Run(ctx)
	return errors.Join(err, server.Drain(context.WithoutCancel(ctx), Drain{Timeout: 5 * time.Second}), <-served)
}

func testHandler(u *Upgrader, b build, second string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /who", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(who{b.Version, os.Getpid(), second})
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(u.Status())
	})
	mux.HandleFunc("POST /spawn", spawn)
	mux.HandleFunc("POST /upgrade", func(w http.ResponseWriter, r *http.Request) {
		pin, err := release.ParsePin(r.URL.Query().Get("pin"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		u.Request(Request{ID: r.URL.Query().Get("id"), Pin: pin})
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("POST /request", func(w http.ResponseWriter, r *http.Request) {
		var request Request
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		request.Remote = r.URL.Query().Has("remote")
		u.Request(request)
		w.WriteHeader(http.StatusAccepted)
	})
	superviseHandlers(mux)
	return mux
}

type who struct {
	Version string
	PID     int
	// Second is the address of the second listener on port 0.
	Second string
}

// testHost fails as the build's fault says.
type testHost struct {
	quietHost
	fault string
	asked atomic.Int64
}

func (h *testHost) Failing(ctx context.Context) []string {
	switch h.fault {
	case "cold-dies":
		if cold() {
			os.Exit(4)
		}
	case "cold-dies-late":
		if cold() && h.asked.Add(1) > 2 {
			os.Exit(4)
		}
	case "cold-sick":
		if cold() {
			return []string{"disk: fault: unhealthy when it is started cold"}
		}
	case "cold-offline":
		if cold() {
			return []string{"network: fault: unreachable when it is started cold"}
		}
	case "unhealthy":
		return []string{"disk: fault: always unhealthy"}
	case "dies":
		fmt.Println("last words on stdout")
		fmt.Fprintln(os.Stderr, "last words on stderr")
		os.Exit(3)
	case "deadlock":
		<-ctx.Done()
		select {}
	case "stopped-later":
		if h.asked.Add(1) > 1 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		}
	case "stopped":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
	return nil
}

// cold tells a cold start from that of a successor.
func cold() bool { return os.Getenv("TABLEFLIP_HAS_PARENT_7DIU3") == "" }

// testHooks note each call in the file "hooks" of the state directory, and the
// span that it is below. The files "fail-NAME" and "hang-NAME" there make a hook do so.
func testHooks(env agentEnv, version string) Hooks {
	stateDir := env.StateDir
	note := func(name string) hook {
		return func(ctx context.Context, c Change) error {
			noteHook(ctx, env, name)
			f, err := os.OpenFile(filepath.Join(stateDir, "hooks"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(f, "%s in %s: %s to %s\n", name, version, c.From.Version, c.To.Version)
			if _, statErr := os.Stat(filepath.Join(stateDir, "fail-"+name)); statErr == nil {
				err = errors.Join(err, errors.New("fault: "+name+" fails"))
			}
			if _, statErr := os.Stat(filepath.Join(stateDir, "hang-"+name)); statErr == nil {
				select {}
			}
			return errors.Join(err, f.Close())
		}
	}
	return Hooks{BeforeStart: note("before-start"), BeforeCommit: note("before-commit"), AfterRollback: note("after-rollback"), Timeout: time.Second}
}
