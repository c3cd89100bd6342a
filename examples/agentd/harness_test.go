package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/examples/internal/spool"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/porttest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// agentd runs a command of version 1.0.0 to its end.
func agentd(t testing.TB, args ...string) result {
	t.Helper()
	return command(t, nil, args...)
}

// command is agentd with further environment variables.
func command(t testing.TB, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t, "1.0.0"), args...)
	// A command that hangs shows where.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(builds.dir, "state")), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("agentd %q: %v\n%s", args, errors.Join(ctx.Err(), err), stderr.String())
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// ok fails the test unless the command succeeded.
func (r result) ok(t testing.TB) result {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	return r
}

// fails checks that the command ended with code and one sentence that
// contains all of says.
func (r result) fails(t testing.TB, code int, says ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	var sentence string
	for line := range strings.Lines(r.stderr) {
		if strings.HasPrefix(line, "agentd: ") {
			sentence += line
		}
	}
	if strings.Count(sentence, "\n") != 1 {
		t.Errorf("want one sentence on standard error, found\n%s", r.stderr)
	}
	for _, s := range says {
		if !strings.Contains(sentence, s) {
			t.Errorf("want %q in the sentence, found\n%s", s, r.stderr)
		}
	}
}

// site is everything that one agent needs.
type site struct {
	t     testing.TB
	dir   string
	etcd  *etcdtest.Server
	repo  string
	key   string
	trust string
	state string
	// listen and admin were free a moment ago.
	listen, admin string
	wrap          []string // a command that agents are started by
	executable    string   // of the agents that are started; default version 1.0.0
}

func newSite(t testing.TB) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{
		t: t, dir: dir, etcd: etcdtest.Start(t),
		repo:  filepath.Join(dir, "repo"),
		key:   filepath.Join(dir, "keys", "release.key"),
		trust: filepath.Join(dir, "keys", "release.pub"),
		state: filepath.Join(dir, "state"),
	}
	s.listen, s.admin = porttest.Address(t), porttest.Address(t)
	agentd(t, "keys", "generate", "--out", filepath.Join(dir, "keys")).ok(t)
	return s
}

// release publishes versions.
func (s *site) release(versions ...string) {
	s.t.Helper()
	for _, v := range versions {
		agentd(s.t, "release", "build", "--plain", "--key", s.key, "--repo", s.repo, "--version", v, binary(s.t, v)).ok(s.t)
	}
}

// runArgs are the arguments of agentd run; those in more replace the site's.
func (s *site) runArgs(more ...string) []string {
	return override([]string{"run", "--id", "a1", "--etcd", s.etcd.URL(), "--state-dir", s.state,
		"--listen", s.listen, "--admin", s.admin, "--repo", s.repo, "--trust", s.trust, "--probation", "1s"}, more)
}

// override returns a command and its flags, each with a value, where flags
// in more take the place of those in args: repeated list flags would add up.
func override(args, more []string) []string {
	out := args[:1:1]
	for i := 1; i < len(args); i += 2 {
		if !slices.Contains(more, args[i]) {
			out = append(out, args[i], args[i+1])
		}
	}
	return append(out, more...)
}

// process is a running agent: the first process, and what follows it.
type process struct {
	site *site
	cmd  *exec.Cmd
	log  string
	done chan error
}

// start runs an agent until it is ready; the end of the test ends it.
func (s *site) start(more ...string) *process {
	s.t.Helper()
	p := s.launch(more...)
	waittest.Until(s.t, "the agent is ready", func() bool {
		select {
		case err := <-p.done:
			s.t.Fatalf("the agent ended: %v\n%s", err, p.logged())
		default:
		}
		return status(s.url(s.admin, "/readyz")) == http.StatusOK
	})
	return p
}

func (s *site) launch(more ...string) *process {
	s.t.Helper()
	logFile, err := os.CreateTemp(s.dir, "agent-*.log")
	if err != nil {
		s.t.Fatal(err)
	}
	executable := s.executable
	if executable == "" {
		executable = binary(s.t, "1.0.0")
	}
	args := slices.Concat(s.wrap, []string{executable}, s.runArgs(more...))
	p := &process{site: s, cmd: exec.Command(args[0], args[1:]...), log: logFile.Name(), done: make(chan error, 1)}
	// A file, not a pipe: successors inherit it, and Wait must not wait for
	// them.
	p.cmd.Stdout, p.cmd.Stderr = logFile, logFile
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { p.done <- errors.Join(p.cmd.Wait(), logFile.Close()) }()
	s.t.Cleanup(func() {
		p.stop()
		if s.t.Failed() {
			s.t.Logf("the agent said:\n%s", p.logged())
		}
	})
	return p
}

func (p *process) logged() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// stop ends whichever process serves now and waits until the address is
// free. It may be called more than once.
func (p *process) stop() {
	pids := map[int]bool{p.cmd.Process.Pid: true}
	if i, err := p.site.info(); err == nil {
		pids[i.PID] = true
	}
	for pid := range pids {
		if err := sendSignal(pid, syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			p.site.t.Error(err)
		}
	}
	waittest.Until(p.site.t, "the agent has ended", func() bool {
		for pid := range pids {
			if alive(pid) {
				return false
			}
		}
		return true
	})
}

func sendSignal(pid int, sig syscall.Signal) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Signal(sig)
}

// alive counts a zombie, which only its parent can remove, as dead.
func alive(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		_, after, _ := bytes.Cut(stat, []byte(") "))
		return !bytes.HasPrefix(after, []byte("Z"))
	}
	return sendSignal(pid, 0) == nil
}

func (s *site) url(address, path string) string { return "http://" + address + path }

// status is the status code of a GET, 0 without an answer.
func status(url string) int {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// info asks the agent who it is.
func (s *site) info() (info, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(s.url(s.listen, "/v1/info"))
	if err != nil {
		return info{}, err
	}
	defer func() { _ = res.Body.Close() }()
	var i info
	return i, json.NewDecoder(res.Body).Decode(&i)
}

func (s *site) mustInfo() info {
	s.t.Helper()
	i, err := s.info()
	if err != nil {
		s.t.Fatal(err)
	}
	return i
}

// post sends records and returns the answer's code.
func (s *site) post(body string) int {
	s.t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Post(s.url(s.listen, "/v1/records"), "application/x-ndjson", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// read calls f with every record of the site.
func (s *site) read(f func(record []byte) error) {
	s.t.Helper()
	if _, err := spool.Read(filepath.Join(s.state, "spool"), f); err != nil {
		s.t.Fatal(err)
	}
}

// stored counts the records of a site by their field "id".
func (s *site) stored() map[string]int {
	s.t.Helper()
	got := map[string]int{}
	s.read(func(record []byte) error {
		var r struct{ ID string }
		err := json.Unmarshal(record, &r)
		got[r.ID]++
		return err
	})
	return got
}

// upgrade runs agentd upgrade; flags in more replace the site's.
func (s *site) upgrade(version string, more ...string) result {
	s.t.Helper()
	args := []string{"upgrade", "--etcd", s.etcd.URL(), "--agent", "a1", "--repo", s.repo, "--trust", s.trust}
	return agentd(s.t, append(override(args, more), version)...)
}

// current is the slot that the site's state directory would boot.
func (s *site) current() string {
	s.t.Helper()
	target, err := os.Readlink(filepath.Join(s.state, "current"))
	if err != nil {
		s.t.Fatal(err)
	}
	return target
}
