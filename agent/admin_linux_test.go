package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/agent/admin"
	"github.com/perennial-go/perennial/internal/waittest"
)

// onSocket asks the admin listener by a connection of its own.
func (m *member) onSocket(path string) (code int, body string, err error) {
	socket := strings.TrimPrefix(m.env.Admin, "unix:")
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	res, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get("http://localhost" + path)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), errors.Join(err, res.Body.Close())
}

func (m *member) says(path string, want int) string {
	m.Helper()
	var said string
	waittest.Nil(m, path, func() error {
		code, body, err := m.onSocket(path)
		if said = body; err != nil || code != want {
			return fmt.Errorf("%s answers %d %s %w, want %d", path, code, body, err, want)
		}
		return nil
	})
	return said
}

// TestProbesAreAnsweredFromBeforeTheStartUntilTheEnd: a prober that finds
// nobody restarts an agent that is about to serve, or takes a swap for a death.
func TestProbesAreAnsweredFromBeforeTheStartUntilTheEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	dir, err := os.MkdirTemp("", "adm") //nolint:usetesting // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := f.member("a1")
	socket := filepath.Join(dir, "s")
	m.env.Admin, m.env.Connect = "unix:"+socket, 30*time.Second

	f.etcd.Stop()
	m.start()
	m.says("/startupz", 503)
	m.says("/readyz", 503)
	m.says("/livez", 200)
	f.etcd.Restart()
	m.registered()
	m.says("/readyz", 200)

	m.kill()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("a killed process left no socket file to replace: %v", err)
	}
	m.start()
	m.takesOver()
	m.says("/readyz", 200)
	if info, err := os.Lstat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket that replaces a dead one: %v, %v", info.Mode(), err)
	}

	ended := m.probed()
	m.upgrades(build{Version: "1.1.0"})
	ended()
	if tree := m.says("/v1/status?format=text", 200); !strings.Contains(tree, "1.1.0") {
		t.Errorf("after the swap the socket is answered with\n%s", tree)
	}
	m.drainsInSight()
	waittest.Until(t, "the socket file is gone", func() bool {
		_, err := os.Lstat(socket)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// probed probes all the time until the function that it returns is called,
// which expects that every probe was told "ready".
func (m *member) probed() (ended func()) {
	stop := make(chan struct{})
	var prober sync.WaitGroup
	probes := 0
	prober.Go(func() {
		pace := time.NewTicker(15 * time.Millisecond) // well within a peer's allowance
		defer pace.Stop()
		for {
			select {
			case <-stop:
				return
			case <-pace.C:
			}
			if code, body, err := m.onSocket("/readyz"); code != 200 {
				m.Errorf("during the swap a probe gets %d %s %v", code, body, err)
			}
			probes++
		}
	})
	return func() {
		close(stop)
		prober.Wait()
		if probes < 10 {
			m.Errorf("only %d probes were made", probes)
		}
	}
}

// drainsInSight stops the agent while a request is in progress, which keeps it
// draining, and looks at its probes.
func (m *member) drainsInSight() {
	m.Helper()
	addr, err := os.ReadFile(m.state + "/address")
	if err != nil {
		m.Fatal(err)
	}
	conn, err := net.Dial("tcp", string(addr))
	if err != nil {
		m.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "POST /request HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		m.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil { // the handler has begun
		m.Fatal(err)
	}
	pid := m.registered().PID
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		m.Fatal(err)
	}
	m.says("/readyz", 503)
	m.says("/livez", 200)
	if body := m.says("/readyz?verbose", 503); !strings.Contains(body, "draining") {
		m.Errorf("a draining agent says\n%s", body)
	}
	_ = conn.Close()
	waittest.Until(m, "the agent has ended", func() bool { return !alive(pid) })
}

func TestProberIsToldNoReasonsAndStrangersNothing(t *testing.T) {
	cfg := idle(t)
	cfg.Admin = admin.Config{Address: "127.0.0.1:0", Allow: []admin.Grant{{Subject: "anyone", Role: admin.Probe}}}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.Health().Set("registration", errors.New("secret reason"))
	get := func(path, accept string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		w := newAnswer()
		a.admin.server.ServeHTTP(w, r)
		return w.code, w.body.String()
	}
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 503, "/readyz/registration": 503, "/readyz?exclude=registration": 503,
		"/readyz?verbose": 401, "/readyz?format=json": 401, "/readyz/registration?verbose": 401, "/metrics": 401,
		"/v1/status": 401, "/v1/alerts": 401, "/debug/pprof/": 401, "/debug/pprof/heap": 401, "/debug/pprof/cmdline": 401, "/none": 404,
	} {
		for _, accept := range []string{"*/*", "application/json"} {
			if got, body := get(path, accept); got != want || strings.Contains(body, "secret reason") {
				t.Errorf("%s (Accept: %s) answers %d, want %d: %s", path, accept, got, want, body)
			}
		}
	}
	if err := a.AdminHandle("GET /own", admin.Probe, http.NotFoundHandler()); err != nil {
		t.Error(err)
	}
	if err := a.AdminHandle("GET /own", admin.Probe, http.NotFoundHandler()); err == nil {
		t.Error("a route was taken twice")
	}
	if err := a.AdminHandle("no pattern at all", admin.Probe, http.NotFoundHandler()); err == nil {
		t.Error("a bad pattern was taken")
	}
}

// answerKept is what a handler answered.
type answerKept struct {
	header http.Header
	code   int
	body   strings.Builder
}

func newAnswer() *answerKept { return &answerKept{header: http.Header{}, code: 200} }

func (r *answerKept) Header() http.Header         { return r.header }
func (r *answerKept) WriteHeader(code int)        { r.code = code }
func (r *answerKept) Write(p []byte) (int, error) { return r.body.Write(p) }
