package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// fleet is a real etcd, a repository and a directory of agents.
type fleet struct {
	testing.TB
	etcd *etcdtest.Server
	dir  *Directory
	repo *release.Repository
	path string
	key  string
}

func newFleet(tb testing.TB) *fleet {
	tb.Helper()
	f := &fleet{TB: tb, etcd: etcdtest.Start(tb), path: tb.TempDir()}
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := public.MarshalText()
	if err != nil {
		tb.Fatal(err)
	}
	f.key = string(text)
	if f.repo, err = release.NewRepository(release.RepositoryConfig{Dir: f.path + "/repo", Key: private, PlainOnly: true}); err != nil {
		tb.Fatal(err)
	}
	if f.dir, err = OpenDirectory(EtcdConfig{Endpoints: []string{f.etcd.URL()}}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.dir.Close() })
	return f
}

func (f *fleet) binary(b build) string {
	f.Helper()
	path := filepath.Join(f.TempDir(), "agent-"+b.Version)
	if err := reexec.Copy(path, b); err != nil {
		f.Fatal(err)
	}
	return path
}

func (f *fleet) publish(b build) release.Pin {
	f.Helper()
	pin, err := f.repo.Publish(f.ctx(), release.Release{
		Name: "demo", Version: b.Version,
		Binaries: []release.Binary{{OS: runtime.GOOS, Arch: runtime.GOARCH, Path: f.binary(b)}},
	})
	if err != nil {
		f.Fatal(err)
	}
	return pin
}

// ctx ends with the test's patience.
func (f *fleet) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	f.Cleanup(cancel)
	return ctx
}

// member is one agent process and those that follow it.
type member struct {
	*fleet
	id, state string
	env       agentEnv
	cmd       *exec.Cmd
	log       string
	*started
	// command starts a binary; nil is exec.Command.
	command func(binary string) *exec.Cmd
}

// started is a process that launch has started.
type started struct {
	done chan struct{}
	err  error // once done
}

func (f *fleet) member(id string) *member {
	f.Helper()
	dir := f.TempDir()
	m := &member{fleet: f, id: id, state: filepath.Join(dir, "state"), log: filepath.Join(dir, "log")}
	m.env = agentEnv{
		ID: id, Etcd: f.etcd.URL(), StateDir: m.state, Repository: f.path + "/repo", Key: f.key,
		TTL: 5 * time.Second, Connect: 2 * time.Second, Probation: 500 * time.Millisecond,
	}
	return m
}

func (m *member) start() *member {
	m.Helper()
	return m.startOf(build{Version: "1.0.0"})
}

func (m *member) startOf(b build) *member {
	m.Helper()
	return m.launch(m.binary(b))
}

// launch starts an executable as this agent.
func (m *member) launch(executable string) *member {
	m.Helper()
	env, err := json.Marshal(m.env)
	if err != nil {
		m.Fatal(err)
	}
	out, err := os.OpenFile(m.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		m.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	if m.cmd = exec.Command(executable); m.command != nil {
		m.cmd = m.command(executable)
	}
	m.cmd.Env = append(os.Environ(), agentVariable+"="+string(env))
	m.cmd.Stdout, m.cmd.Stderr = out, out
	if err := m.cmd.Start(); err != nil {
		m.Fatal(err)
	}
	s, cmd := &started{done: make(chan struct{})}, m.cmd
	m.started = s
	go func() {
		defer close(s.done)
		s.err = cmd.Wait()
	}()
	m.Cleanup(m.stop)
	return m
}

// kill ends the first process as kill -9 does.
func (m *member) kill() {
	m.Helper()
	if err := m.cmd.Process.Kill(); err != nil {
		m.Fatal(err)
	}
	<-m.done
}

// stop kills whichever process holds the state directory.
func (m *member) stop() {
	data, err := os.ReadFile(m.state + "/lock")
	if err == nil {
		pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if strings.Contains(exe, m.state) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = m.cmd.Process.Kill()
	<-m.done
	if m.Failed() {
		m.Logf("%s said:\n%s", m.id, m.said())
	}
}

func (m *member) said() string {
	data, err := os.ReadFile(m.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// fails waits for the end of the process and expects words in what it said.
func (m *member) fails(words string) {
	m.Helper()
	select {
	case <-m.done:
	case <-m.ctx().Done():
		m.Fatal("the agent did not end")
	}
	if m.err == nil || !strings.Contains(m.said(), words) {
		m.Errorf("ended with %v and\n%s\nwant a failure that says %q", m.err, m.said(), words)
	}
}

func (m *member) registered() Entry { m.Helper(); return m.entry(Running) }

// entry is that of the registry, once the agent is in one of states.
func (m *member) entry(states ...State) Entry {
	m.Helper()
	var found Entry
	waittest.Nil(m, fmt.Sprintf("%s is %v", m.id, states), func() error {
		entries, err := listed(m.ctx(), m.dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.ID == m.id && slices.Contains(states, e.State.State) && e.Status != nil {
				found = e
				return nil
			}
		}
		return fmt.Errorf("registry: %+v", entries)
	})
	return found
}

// takesOver waits until the process that was started last is registered.
func (m *member) takesOver() {
	m.Helper()
	waittest.Nil(m, "the new process is registered", func() error {
		if e := m.registered(); e.PID != m.cmd.Process.Pid {
			return fmt.Errorf("pid %d is registered, %d runs", e.PID, m.cmd.Process.Pid)
		}
		return nil
	})
}

func (m *member) greets() (string, error) { return m.get("/") }

func (m *member) get(path string) (string, error) {
	addr, err := os.ReadFile(m.state + "/address")
	if err != nil {
		return "", err
	}
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + string(addr) + path)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(res.Body)
	return string(body), errors.Join(err, res.Body.Close())
}
