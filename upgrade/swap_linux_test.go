package upgrade

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// rig is one test agent with its repository.
type rig struct {
	testing.TB
	env  agentEnv
	repo *release.Repository
	cmd  *exec.Cmd
	done chan struct{} // the first process has ended
	log  string        // file
	// command starts a binary; nil is exec.Command.
	command func(binary string) *exec.Cmd
	key     minisign.PrivateKey
}

// newRig publishes a repository and starts version 1.0.0.
func newRig(tb testing.TB, probation time.Duration, failpoints map[string]string) *rig {
	tb.Helper()
	return newRigOf(tb, build{Version: "1.0.0"}, probation, failpoints)
}

// newRigOf starts first.
func newRigOf(tb testing.TB, first build, probation time.Duration, failpoints map[string]string) *rig {
	tb.Helper()
	r := prepareRig(tb, probation, failpoints)
	r.first(first)
	return r
}

// first starts b.
func (r *rig) first(b build) {
	r.Helper()
	r.start(makeBinary(r, b))
	r.Cleanup(r.stop)
}

// prepareRig publishes a repository.
func prepareRig(tb testing.TB, probation time.Duration, failpoints map[string]string) *rig {
	tb.Helper()
	dir := tb.TempDir()
	publicKey, key, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	public, err := publicKey.MarshalText()
	if err != nil {
		tb.Fatal(err)
	}
	r := &rig{TB: tb, log: filepath.Join(dir, "log"), env: agentEnv{
		StateDir: filepath.Join(dir, "state"), Repository: filepath.Join(dir, "repo"), Key: string(public),
		Address: filepath.Join(dir, "address"), Spans: filepath.Join(dir, "spans"), Probation: probation, Failpoints: failpoints,
	}, key: key}
	r.repo, err = release.NewRepository(release.RepositoryConfig{Dir: r.env.Repository, Key: key, PlainOnly: true})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// start runs binary and waits until it serves.
func (r *rig) start(binary string) {
	r.Helper()
	r.run(binary)
	waittest.Nil(r, "the agent serves", func() error { _, err := r.who(); return err })
}

// run starts command, by default an agent's executable without arguments.
func (r *rig) run(command ...string) {
	r.Helper()
	env, err := json.Marshal(r.env)
	if err != nil {
		r.Fatal(err)
	}
	_ = os.Remove(r.env.Address)
	r.cmd = exec.Command(command[0], command[1:]...) //nolint:gosec // the test's own
	if r.command != nil {
		r.cmd = r.command(command[0])
	}
	r.cmd.Env = append(os.Environ(), agentVariable+"="+string(env))
	// A file, for a pipe would end with the first process.
	out, err := os.OpenFile(r.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		r.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	r.cmd.Stderr, r.cmd.Stdout = out, out
	if err := r.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	done := make(chan struct{})
	r.done = done
	cmd := r.cmd
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
}

// stop ends whatever process holds the state directory, and a successor that
// then would go on alone.
func (r *rig) stop() {
	if pid := r.holder(); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = r.cmd.Process.Kill()
	<-r.done
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		exe, err := os.Readlink(link)
		if pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil && strings.HasPrefix(exe, r.env.StateDir+"/") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	for _, s := range r.spans() {
		if s.Open {
			r.Errorf("process %d ended and left its span %s open", s.PID, s.Name)
		}
	}
	if r.Failed() {
		r.Log("agent's log:\n" + r.logged())
	}
}

// holder is the pid in the lock file, if that process runs a test release.
func (r *rig) holder() int {
	data, err := os.ReadFile(filepath.Join(r.env.StateDir, lockName))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || !strings.Contains(exe, filepath.Dir(r.env.StateDir)) && !strings.Contains(exe, "agent-") {
		return 0
	}
	return pid
}

func (r *rig) url(path string) string {
	addr, err := os.ReadFile(r.env.Address)
	if err != nil {
		return "http://127.0.0.1:1" + path
	}
	return "http://" + string(addr) + path
}

// fresh is a client that never talks to a process that only drains.
func fresh() *http.Client {
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}

func (r *rig) get(path string, into any) error {
	res, err := fresh().Get(r.url(path))
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	return json.NewDecoder(res.Body).Decode(into)
}

func (r *rig) who() (who, error) {
	var w who
	return w, r.get("/who", &w)
}

// publish signs a release of b and returns its pin.
func (r *rig) publish(b build) release.Pin {
	r.Helper()
	return r.publishFile(b.Version, makeBinary(r, b))
}

// publishFile signs any file as a release.
func (r *rig) publishFile(version, path string) release.Pin {
	r.Helper()
	pin, err := r.repo.Publish(context.Background(), release.Release{
		Name: "demo", Version: version,
		Binaries: []release.Binary{{OS: runtime.GOOS, Arch: runtime.GOARCH, Path: path}},
	})
	if err != nil {
		r.Fatal(err)
	}
	return pin
}

// ask requests an upgrade under the pin's version as the id.
func (r *rig) ask(pin release.Pin) {
	r.Helper()
	r.askAs(pin, pin.Version)
}

func (r *rig) askAs(pin release.Pin, id string) {
	r.Helper()
	res, err := fresh().Post(r.url("/upgrade?id="+id+"&pin="+url.QueryEscape(pin.String())), "", nil)
	if err != nil {
		r.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		r.Fatal(res.Status)
	}
}

// request asks for anything.
func (r *rig) request(request Request) {
	r.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		r.Fatal(err)
	}
	res, err := fresh().Post(r.url("/request"), "application/json", bytes.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		r.Fatal(res.Status)
	}
}

// ends waits for the end of the attempt for version and returns it.
func (r *rig) ends(version string) Status {
	r.Helper()
	var s Status
	waittest.Nil(r, "the attempt for "+version+" ends", func() error {
		s = Status{}
		if err := r.get("/status", &s); err != nil {
			return err
		}
		if s.OrderID != version || !s.State.Terminal() {
			return fmt.Errorf("order %q is %s", s.OrderID, s.State)
		}
		return nil
	})
	return s
}

func (r *rig) serves(version string) who {
	r.Helper()
	var w who
	waittest.Nil(r, version+" serves", func() (err error) {
		if w, err = r.who(); err == nil && w.Version != version {
			err = fmt.Errorf("%s serves", w.Version)
		}
		return err
	})
	return w
}

func (r *rig) current() string {
	r.Helper()
	slot, err := slots{r.env.StateDir}.current()
	if err != nil {
		r.Fatal(err)
	}
	return slot.Version
}

func (r *rig) logged() string {
	data, err := os.ReadFile(r.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// load is a crowd of clients: keep-alive and fresh connections, half of
// them posting.
type load struct {
	stop     context.CancelFunc
	wait     sync.WaitGroup
	mu       sync.Mutex
	requests int
	failures []error
}

// pace is what clients wait between two requests while a test is about more
// than them: with none they would take the processors from the swap itself.
const pace = 2 * time.Millisecond

func startLoad(r *rig, clients int, pause time.Duration) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	for i := range clients {
		l.wait.Go(func() {
			transport := &http.Transport{DisableKeepAlives: i%2 == 0}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
			for ctx.Err() == nil {
				err := oneRequest(client, r.url(""), i%4 < 2)
				l.mu.Lock()
				l.requests++
				if err != nil {
					l.failures = append(l.failures, err)
				}
				l.mu.Unlock()
				if pause > 0 {
					<-time.After(pause)
				}
			}
		})
	}
	return l
}

func oneRequest(client *http.Client, base string, post bool) error {
	if !post {
		res, err := client.Get(base + "/who")
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, res.Body)
		return errors.Join(err, res.Body.Close())
	}
	res, err := client.Post(base+"/echo", "text/plain", strings.NewReader("a record"))
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if err == nil && string(body) != "a record" {
		err = fmt.Errorf("answer %q", body)
	}
	return errors.Join(err, res.Body.Close())
}

// end stops the load and fails the test if any request failed; with
// accepted, those do not count that a process had accepted.
func (l *load) end(tb testing.TB, accepted bool) {
	tb.Helper()
	l.stop()
	l.wait.Wait()
	if accepted {
		l.failures = slices.DeleteFunc(l.failures, func(err error) bool { return !errors.Is(err, syscall.ECONNREFUSED) })
	}
	if len(l.failures) > 0 {
		tb.Errorf("%d of %d requests failed, the first: %v", len(l.failures), l.requests, l.failures[0])
	}
	if l.requests == 0 {
		tb.Error("no request was made")
	}
	tb.Logf("%d requests, %d failures", l.requests, len(l.failures))
}

func TestUpgradeUnderLoadDropsNoRequest(t *testing.T) {
	r := newRig(t, 200*time.Millisecond, nil)
	first := r.serves("1.0.0")
	l := startLoad(r, 8, 0)
	for _, version := range []string{"1.1.0", "1.2.0"} {
		r.ask(r.publish(build{Version: version}))
		s := r.ends(version)
		if s.State != Committed || s.Running.Version != version {
			t.Fatalf("%s: %s (%s), running %s", version, s.State, s.Reason, s.Running.Version)
		}
		if got := r.current(); got != version {
			t.Fatalf("current names %s, want %s", got, version)
		}
	}
	last := r.serves("1.2.0")
	l.end(t, false)
	if first.PID == last.PID {
		t.Error("the process did not change: that was no upgrade")
	}
	if first.Second != last.Second {
		t.Errorf("the second listener on port 0 moved from %s to %s", first.Second, last.Second)
	}
	<-r.done
}

func TestFailedReleaseIsRefusedTheNextTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, 200*time.Millisecond, nil)
	pin := r.publish(build{Version: "1.1.0", Fault: "exit"})
	r.ask(pin)
	r.ends("1.1.0")
	r.askAs(pin, "again")
	if s := r.ends("again"); s.State != Failed || !strings.Contains(s.Reason, "quarantined") {
		t.Errorf("%s: %s; want failed because it is quarantined", s.State, s.Reason)
	}
}

func TestSecondAgentOnTheStateDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, time.Second, nil)
	second := exec.Command(makeBinary(t, build{Version: "1.0.0"}))
	second.Env = r.cmd.Env
	out, err := second.CombinedOutput()
	want := fmt.Sprintf("belongs to the running agent with pid %d", r.cmd.Process.Pid)
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: %s; want a failure that says %q", err, out, want)
	}
	r.serves("1.0.0")
}

// Each crash is a real kill -9 at the named step; then the executable that
// was installed first is started again, as a service manager would.
func TestCrashBootsAProvenReleaseAndResolvesTheJournal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		failpoints map[string]string
		survivor   string // the version that serves on without a restart
		boots      string // the version that serves after a restart
		state      State
	}{
		{"incumbent before start", map[string]string{"1.0.0": "start=kill"}, "", "1.0.0", RolledBack},
		{"incumbent while staging", map[string]string{"1.0.0": "stage-before-complete=kill"}, "", "1.0.0", Failed},
		{"successor in probation", map[string]string{"1.1.0": "served=kill"}, "1.0.0", "", RolledBack},
		{"incumbent before current moves", map[string]string{"1.0.0": "commit-before-current=kill"}, "1.1.0", "", Committed},
		{"incumbent after current moved", map[string]string{"1.0.0": "commit-after-current=kill"}, "1.1.0", "", Committed},
		{"successor as it takes over", map[string]string{"1.1.0": "take-over=kill"}, "1.0.0", "", RolledBack},
		{"both, before current moves", map[string]string{"1.0.0": "commit-before-current=kill", "1.1.0": "take-over=kill"}, "", "1.1.0", Committed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 300*time.Millisecond, c.failpoints)
			pin := r.publish(build{Version: "1.1.0"})
			r.ask(pin)
			want := c.survivor
			if c.survivor == "" {
				<-r.done
				want = c.boots
				r.awaitFree()
				r.env.Failpoints = nil
				r.start(r.cmd.Path)
			}
			s := r.ends("1.1.0")
			if s.State != c.state || (c.survivor == "" && s.Reason == "") {
				t.Errorf("journal: %s (%s), want %s and why", s.State, s.Reason, c.state)
			}
			r.serves(want)
			if got := r.current(); got != want {
				t.Errorf("current names %s, want %s", got, want)
			}
			waittest.Nil(r, "no slot is left over", func() error {
				complete, unfinished, err := (slots{r.env.StateDir}).list()
				if len(unfinished) > 0 || (want == "1.0.0") != (len(complete) == 1) {
					err = fmt.Errorf("%d slots, unfinished %v, %w", len(complete), unfinished, err)
				}
				return err
			})
			r.ask(r.publish(build{Version: "1.2.0"}))
			if s := r.ends("1.2.0"); s.State != Committed {
				t.Errorf("the next upgrade: %s: %s", s.State, s.Reason)
			}
		})
	}
}

// awaitFree waits until no process holds the state directory.
func (r *rig) awaitFree() {
	r.Helper()
	waittest.Nil(r, "the state directory is free", func() error {
		if isLocked(r.env.StateDir) {
			return errors.New("locked")
		}
		return nil
	})
}

// upgradeAndKill leaves version current and no process alive.
func (r *rig) upgradeAndKill(version string) {
	r.Helper()
	r.ask(r.publish(build{Version: version}))
	r.ends(version)
	<-r.done
	if err := syscall.Kill(r.holder(), syscall.SIGKILL); err != nil {
		r.Fatal(err)
	}
	r.awaitFree()
}

func TestRestartExecutesCurrentUnderTheSamePID(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.upgradeAndKill("1.1.0")
	r.start(r.cmd.Path)
	if w := r.serves("1.1.0"); w.PID != r.cmd.Process.Pid {
		t.Errorf("1.1.0 has pid %d, the service manager started %d", w.PID, r.cmd.Process.Pid)
	}
}

func TestInstallingANewerExecutableAdoptsIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-r.done
	r.start(makeBinary(t, build{Version: "1.5.0"}))
	r.serves("1.5.0")
	waittest.Nil(r, "current names the newer executable", func() error {
		if got := r.current(); got != "1.5.0" {
			return errors.New("it names " + got)
		}
		return nil
	})
}

func TestAnOlderExecutableGivesWayToCurrent(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.upgradeAndKill("1.1.0")
	// As with a container's image that is older than its volume.
	r.start(makeBinary(t, build{Version: "1.0.5"}))
	if w := r.serves("1.1.0"); w.PID != r.cmd.Process.Pid {
		t.Errorf("1.1.0 has pid %d, %d was started", w.PID, r.cmd.Process.Pid)
	}
}

func TestSickReleaseDoesNotCommitHoweverShortTheProbation(t *testing.T) {
	t.Parallel()
	r := newRig(t, time.Millisecond, nil)
	r.ask(r.publish(build{Version: "1.1.0", Fault: "unhealthy"}))
	if s := r.ends("1.1.0"); s.State != RolledBack || !strings.Contains(s.Reason, "unhealthy") {
		t.Errorf("state %s, reason %q; want rolled_back, for it was never healthy", s.State, s.Reason)
	}
	r.ask(r.publish(build{Version: "1.1.1"}))
	if s := r.ends("1.1.1"); s.State != Committed {
		t.Errorf("a healthy one: %s: %s", s.State, s.Reason)
	}
}

func TestSuccessorThatHangsAtTheEndOfItsProbationIsNotCommitted(t *testing.T) {
	t.Parallel()
	// Silence is noticed after 3 s, so 100 ms of probation are over first.
	r := newRig(t, 100*time.Millisecond, nil)
	r.ask(r.publish(build{Version: "1.1.0", Fault: "stopped-later"}))
	s := r.ends("1.1.0")
	if s.State != RolledBack || !strings.Contains(s.Reason, "no health report") {
		t.Errorf("state %s, reason %q; want rolled_back for its silence", s.State, s.Reason)
	}
	if got := r.current(); got != "1.0.0" {
		t.Errorf("current names %s, which hangs", got)
	}
}

func TestReleaseThatWasInstalledByHandNeedsNoUpgrade(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.ask(r.publish(build{Version: "1.0.0"}))
	if s := r.ends("1.0.0"); s.State != Committed || !strings.Contains(s.Reason, "nothing to do") {
		t.Errorf("state %s, reason %q; want committed, for it runs already", s.State, s.Reason)
	}
	if w := r.serves("1.0.0"); w.PID != r.cmd.Process.Pid {
		t.Error("it was upgraded to itself")
	}
}
