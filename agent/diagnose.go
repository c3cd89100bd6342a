package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/redact"
	"github.com/perennial-go/perennial/internal/secretfile"
)

// ErrDiagnosing says that another diagnosis of this agent is being made. Ask again when
// it has ended, within DiagnoseTimeout.
var ErrDiagnosing = errors.New("a diagnosis is being made already")

// Diagnose writes what is needed to find out what is wrong with this agent, as
// a tar file in gzip: the newest lines of its log and of its plugins', status,
// journal and other files of the state directory, configuration, metrics,
// goroutines, heap, alerts, build and limits. Its last file is index.json, a
// Diagnosis, which says what each is and what could not be had. It may be called
// at any time after New.
//
// Secrets are taken out: what the configuration marks as such, passwords of
// etcd, Config.Secrets, values of flags and environment variables that are
// called like secrets, private keys, tokens. No file of the state directory is
// read that may hold a key. A secret that the agent does not know, and that does
// not look like one, cannot be told from other text: look through it before it
// goes to strangers.
//
// It takes at most DiagnoseBytes and DiagnoseTimeout. One is made at a time;
// others get ErrDiagnosing. A w that blocks holds it up beyond that.
func (a *Agent) Diagnose(ctx context.Context, w io.Writer) error {
	if !a.diagnosing.TryLock() {
		return fmt.Errorf("agent: %w", ErrDiagnosing)
	}
	defer a.diagnosing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, DiagnoseTimeout)
	defer cancel()
	var schemas []*config.Schema
	if s, err := config.ParseSchema(a.schema.data); err == nil {
		schemas = append(schemas, s)
	}
	state, stateErr := openState(a.cfg.StateDir, schemas)
	secrets := a.secrets()
	if stateErr == nil {
		defer state.close()
		secrets = append(secrets, state.secrets...)
	}
	var veil []func(string) string
	if v, ok := a.cfg.Settings.(interface{ Veil(string) string }); ok {
		veil = append(veil, v.Veil)
	}
	clean := redact.New(secrets, veil...)
	out := newArchive(w, clean, Diagnosis{Agent: a.cfg.ID, Version: a.cfg.Version, Source: "agent"})
	parts := a.parts(clean)
	if stateErr == nil {
		parts = append(parts, state.parts()...)
	} else {
		out.missing("state", stateErr)
	}
	if len(schemas) == 0 {
		out.missing("values of config/kept.json", errors.New("the configuration has no schema that says which are secret, so that none is shown"))
	}
	for _, p := range parts {
		if err := out.add(ctx, p); err != nil {
			return fmt.Errorf("agent: the diagnosis was not finished: %w", err)
		}
	}
	return out.close()
}

// serveDiagnosis answers with a diagnosis.
func (a *Agent) serveDiagnosis(w http.ResponseWriter, r *http.Request) {
	// Whoever does not read must not keep others from theirs.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(DiagnoseTimeout)) // not of every server
	w.Header().Set("Content-Type", "application/gzip")
	w.Header().Set("Cache-Control", "no-store")
	started := &startedWriter{w: w}
	err := a.Diagnose(r.Context(), started)
	switch {
	case err == nil:
	case errors.Is(err, ErrDiagnosing):
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Retry-After", "10")
		http.Error(w, err.Error(), http.StatusTooManyRequests)
	case started.began:
		a.log.Warn("a diagnosis was not finished", "error", err)
		panic(http.ErrAbortHandler) // so that the reader does not take it for whole
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// startedWriter remembers that something was written.
type startedWriter struct {
	w     io.Writer
	began bool
}

// Write implements io.Writer.
func (s *startedWriter) Write(data []byte) (int, error) {
	s.began = true
	return s.w.Write(data)
}

// secrets are the texts that this process knows to be secret, beside its
// configuration.
func (a *Agent) secrets() []string {
	all := []string{a.cfg.Etcd.Password}
	if a.cfg.Secrets != nil {
		all = append(all, a.cfg.Secrets()...)
	}
	if file := a.cfg.Etcd.PasswordFile; file != "" {
		if text, err := secretfile.Read("password", file, 1<<10); err == nil {
			all = append(all, text)
		}
	}
	for _, endpoint := range a.cfg.Etcd.Endpoints {
		all = append(all, redact.Variable("", endpoint)...)
	}
	_, flags := redact.CommandLine(os.Args)
	all = append(all, slices.DeleteFunc(flags, func(s string) bool { return len(s) < 6 })...) // a word, perhaps
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		all = append(all, redact.Variable(name, value)...)
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// parts are the entries that this process gives.
func (a *Agent) parts(clean *redact.Redactor) []finding {
	parts := []finding{
		buildPart(),
		asJSON("registration.json", "who the agent is", func() any { return a.Info() }),
		asJSON("status.json", "the status as it would be published now", func() any {
			if a.orders == nil {
				return map[string]any{"health": a.health.Report(), "note": "the agent has not got as far as etcd"}
			}
			return a.presence.status()
		}),
		asJSON("alerts.json", "the newest alerts that fired or ended, the oldest first", func() any { return a.health.RecentAlerts() }),
		{name: "logs/agent.ndjson", about: "the newest lines of this process's log", limit: recentBytes + recentLine, make: a.recentLines(clean)},
		{name: "metrics.txt", about: "what /metrics answers", limit: 4 << 20, make: a.metricsText},
		{name: "process.json", about: "command line, names of environment variables, cgroup and limits", limit: stateFileBytes, make: processFacts},
		{name: "goroutines.txt", about: "the stack of every goroutine", limit: 4 << 20, make: goroutines},
		{name: "heap.pprof", about: "what the memory is used for; go tool pprof reads it", limit: 4 << 20, binary: true, make: profile("heap")},
	}
	if a.plugins != nil {
		parts = append(parts, asJSON("plugins.json", "the plugins", func() any { return a.plugins.List() }))
	}
	return parts
}

func (a *Agent) recentLines(clean *redact.Redactor) func(context.Context, io.Writer) (string, error) {
	return func(_ context.Context, w io.Writer) (note string, err error) {
		r, ok := a.log.Handler().(*recorder)
		if !ok {
			return "", errors.New("the agent's log is not remembered")
		}
		lost, err := r.ring.copyTo(w, clean)
		if lost > 0 {
			note = fmt.Sprintf("%d older lines are not remembered", lost)
		}
		return note, err
	}
}

func (a *Agent) metricsText(ctx context.Context, w io.Writer) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return "", err
	}
	answer := &metricsAnswer{Writer: w, header: http.Header{}}
	promhttp.HandlerFor(a.health.Registry(), promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(answer, r)
	if answer.err == nil && answer.code >= 400 {
		return "", fmt.Errorf("the metrics cannot be gathered: status %d", answer.code)
	}
	return "", answer.err
}

// metricsAnswer takes what a handler answers.
type metricsAnswer struct {
	io.Writer
	header http.Header
	code   int
	err    error
}

// Header, WriteHeader and Write implement http.ResponseWriter.
func (m *metricsAnswer) Header() http.Header { return m.header }

func (m *metricsAnswer) WriteHeader(code int) { m.code = code }

func (m *metricsAnswer) Write(data []byte) (int, error) {
	n, err := m.Writer.Write(data)
	m.err = errors.Join(m.err, err)
	return n, err
}

func buildPart() finding {
	return finding{name: "build.txt", about: "what the program was built from", limit: stateFileBytes, make: func(_ context.Context, w io.Writer) (string, error) {
		info, ok := debug.ReadBuildInfo()
		if !ok {
			return "", errors.New("the program was built without it")
		}
		_, err := fmt.Fprintf(w, "%s/%s\n%s", runtime.GOOS, runtime.GOARCH, info)
		return "", err
	}}
}

// goroutines writes the stacks. The world stands still meanwhile, which the
// size of the buffer bounds.
func goroutines(_ context.Context, w io.Writer) (note string, err error) {
	for size := 256 << 10; ; size *= 2 {
		buf := make([]byte, size)
		n := runtime.Stack(buf, true)
		if n == size && size < 4<<20 {
			continue
		}
		if n == size {
			note = fmt.Sprintf("cut after %d bytes", n)
		}
		_, err := w.Write(buf[:n])
		return note, err
	}
}

func profile(name string) func(context.Context, io.Writer) (string, error) {
	return func(_ context.Context, w io.Writer) (string, error) {
		return "", pprof.Lookup(name).WriteTo(w, 0)
	}
}
