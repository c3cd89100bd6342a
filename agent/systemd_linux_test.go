package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

// told is one notification: who sent it and what it says.
type told struct {
	pid  int
	vars map[string]string
}

// systemd is a notify socket that judges senders as systemd does with
// NotifyAccess=main, by the pid that the kernel tells of them.
type systemd struct {
	testing.TB
	path string

	mu      sync.Mutex
	main    int // pid; 0 accepts all, as NotifyAccess=all does
	heard   []told
	ignored []told
}

func newSystemd(tb testing.TB, path string) *systemd {
	tb.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
				tb.Error(err)
			}
		})
	}
	if err != nil {
		tb.Fatal(err)
	}
	s := &systemd{TB: tb, path: path}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.listen(conn)
	}()
	tb.Cleanup(func() {
		_ = conn.Close()
		<-done
		if tb.Failed() {
			tb.Logf("heard %+v\nignored %+v", s.heard, s.ignored)
		}
	})
	return s
}

func (s *systemd) listen(conn *net.UnixConn) {
	buf, control := make([]byte, 4096), make([]byte, 256)
	for {
		n, c, _, _, err := conn.ReadMsgUnix(buf, control)
		if err != nil {
			return
		}
		m := told{vars: map[string]string{}}
		if messages, err := unix.ParseSocketControlMessage(control[:c]); err == nil && len(messages) > 0 {
			if cred, err := unix.ParseUnixCredentials(&messages[0]); err == nil {
				m.pid = int(cred.Pid)
			}
		}
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			name, value, _ := strings.Cut(line, "=")
			m.vars[name] = value
		}
		s.take(m)
	}
}

func (s *systemd) take(m told) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, mark := m.vars["MARK"]; !mark && s.main != 0 && s.main != m.pid {
		s.ignored = append(s.ignored, m)
		return
	}
	s.heard = append(s.heard, m)
	if pid, err := strconv.Atoi(m.vars["MAINPID"]); err == nil {
		s.main = pid
	}
}

// hears waits for a notification with variable among those from the n-th on
// and returns it and the number of the one after it.
func (s *systemd) hears(variable string, n int) (told, int) {
	s.Helper()
	var m told
	waittest.Until(s, "notification of "+variable, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		i := slices.IndexFunc(s.heard[n:], func(m told) bool { _, has := m.vars[variable]; return has })
		if i < 0 {
			return false
		}
		m, n = s.heard[n+i], n+i+1
		return true
	})
	return m, n
}

// mark returns the number of the next notification: all that was sent before
// has been read.
func (s *systemd) mark() int {
	s.Helper()
	s.mu.Lock()
	n := len(s.heard)
	s.mu.Unlock()
	if err := notify(s.path, "MARK=1"); err != nil {
		s.Fatal(err)
	}
	_, n = s.hears("MARK", n)
	return n
}

// since are the notifications with variable from the n-th on.
func (s *systemd) since(variable string, n int) []told {
	s.mark()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.heard[n:]), func(m told) bool { _, has := m.vars[variable]; return !has })
}

// runs makes the agent's first process the main one.
func (s *systemd) runs(m *member, environment ...string) {
	m.command = func(binary string) *exec.Cmd {
		script := "NOTIFY_SOCKET='" + s.path + "' " + strings.Join(environment, " ") + ` exec "$0"`
		return exec.Command("/bin/sh", "-c", script, binary)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.start()
	s.main = m.cmd.Process.Pid
}

// stops tells a process to stop and waits for its end.
func (m *member) stops(pid int) {
	m.Helper()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		m.Fatal(err)
	}
	waittest.Until(m, "the agent ends", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// clock is the time that systemd compares with.
func clock(tb testing.TB) time.Duration {
	tb.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(now.Nano())
}

func TestServiceManagerFollowsTheServiceThroughSwapRollbackAndStop(t *testing.T) {
	s := newSystemd(t, filepath.Join(t.TempDir(), "notify"))
	m := newFleet(t).member("a1")
	s.runs(m)
	first := m.cmd.Process.Pid
	ready, n := s.hears("READY", 0)
	if ready.vars["STATUS"] != "serving 1.0.0" {
		t.Errorf("ready with %v", ready.vars)
	}
	m.registered()

	before := clock(t)
	m.ends(m.order(build{Version: "1.1.0"}), upgrade.Committed)
	reloading, n := s.hears("RELOADING", n)
	usec, err := strconv.ParseInt(reloading.vars["MONOTONIC_USEC"], 10, 64)
	if at := time.Duration(usec) * time.Microsecond; err != nil || at < before || at > clock(t) {
		t.Errorf("MONOTONIC_USEC=%s, %v; want the time of the reload in microseconds", reloading.vars["MONOTONIC_USEC"], err)
	}
	committed, n := s.hears("READY", n)
	second := m.registered().PID
	if committed.pid != first || committed.vars["MAINPID"] != strconv.Itoa(second) || committed.vars["STATUS"] != "serving 1.1.0" {
		t.Errorf("committed with %+v, want process %d to name %d", committed, first, second)
	}
	<-m.done

	m.ends(m.order(build{Version: "1.2.0", Sick: true}), upgrade.RolledBack)
	_, n = s.hears("RELOADING", n)
	back, n := s.hears("READY", n)
	if _, moved := back.vars["MAINPID"]; moved || !strings.Contains(back.vars["STATUS"], "serving 1.1.0; upgrade 1.1.0 to 1.2.0 rolled_back: the successor was unhealthy") {
		t.Errorf("rolled back with %v", back.vars)
	}

	if stopping := s.since("STOPPING", 0); len(stopping) > 0 {
		t.Errorf("stopping too early: %+v", stopping)
	}
	m.stops(second)
	stopping, n := s.hears("STOPPING", n)
	if stopping.pid != second || stopping.vars["STATUS"] != "draining: stop was asked for" {
		t.Errorf("stopped with %+v", stopping)
	}
	if after := s.since("READY", n); len(after) > 0 {
		t.Errorf("ready after the stop: %+v", after)
	}
	if len(s.ignored) > 0 {
		t.Errorf("systemd would ignore %+v", s.ignored)
	}
}

func TestSupervisedAgentNamesNoMainProcess(t *testing.T) {
	s := newSystemd(t, fmt.Sprintf("@perennial-test-%d", os.Getpid()))
	m := newFleet(t).member("a1")
	m.env.Supervise = upgrade.SuperviseAlways
	s.runs(m)
	s.mu.Lock()
	s.main = 0
	s.mu.Unlock()
	_, n := s.hears("READY", 0)
	m.registered()
	m.ends(m.order(build{Version: "1.1.0"}), upgrade.Committed)
	_, n = s.hears("RELOADING", n)
	if _, n = s.hears("READY", n); len(s.since("MAINPID", 0)) > 0 {
		t.Error("the main process is the supervisor's to name")
	}
	m.stops(m.registered().PID)
	s.hears("STOPPING", n)
}

func TestWatchdogStarvesOnceTheAgentIsNotLive(t *testing.T) {
	s := newSystemd(t, filepath.Join(t.TempDir(), "notify"))
	m := newFleet(t).member("a1")
	m.env.Deadlock = filepath.Join(t.TempDir(), "deadlock")
	s.runs(m, "WATCHDOG_USEC=1000000", "WATCHDOG_PID=$$")
	_, n := s.hears("WATCHDOG", 0)
	m.registered()
	m.ends(m.order(build{Version: "1.1.0"}), upgrade.Committed)
	_, n = s.hears("MAINPID", n)
	second := m.registered().PID
	for range 2 {
		var sign told
		if sign, n = s.hears("WATCHDOG", n); sign.pid != second {
			t.Fatalf("a sign of life of %d, want the successor %d", sign.pid, second)
		}
	}
	if err := os.WriteFile(m.env.Deadlock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the agent says that it is not live", func() bool { return strings.Contains(m.said(), "the agent is not live") })
	n = s.mark()
	m.stops(second)
	s.hears("STOPPING", n)
	if signs := s.since("WATCHDOG", n); len(signs) > 0 {
		t.Errorf("signs of life of a deadlocked agent: %+v", signs)
	}
}

func TestLongDrainAsksForTimeUntilItIsOver(t *testing.T) {
	s := newSystemd(t, filepath.Join(t.TempDir(), "notify"))
	m := newFleet(t).member("a1")
	s.runs(m)
	m.registered()
	request := m.opens("/echo")
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, n := s.hears("STOPPING", 0)
	for range 2 {
		var more told
		if more, n = s.hears("EXTEND_TIMEOUT_USEC", n); more.vars["EXTEND_TIMEOUT_USEC"] != "15000000" {
			t.Errorf("asked for %v", more.vars)
		}
	}
	request()
	<-m.done
	if m.err != nil {
		t.Errorf("the agent ended with %v", m.err)
	}
}

// opens begins a request whose body is open until the returned function ends
// it and expects its answer.
func (m *member) opens(path string) (finish func()) {
	m.Helper()
	addr, err := os.ReadFile(m.state + "/address")
	if err != nil {
		m.Fatal(err)
	}
	body, more := io.Pipe()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		// Enough for the answer to begin.
		_, _ = more.Write(make([]byte, 64<<10))
	}()
	client := http.Client{Timeout: waittest.Patience}
	res, err := client.Post("http://"+string(addr)+path, "text/plain", body) //nolint:bodyclose // finish does
	if err != nil {
		m.Fatal(err)
	}
	return func() {
		m.Helper()
		<-sent
		err := more.Close()
		n, readErr := io.Copy(io.Discard, res.Body)
		if err := errors.Join(err, readErr, res.Body.Close()); err != nil || n != 64<<10 {
			m.Errorf("the request that was open was lost after %d bytes of its answer: %v", n, err)
		}
	}
}

func TestServiceManagerThatDoesNotReadHoldsNothingUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	s := &serviceManager{log: slog.New(slog.DiscardHandler), socket: path}
	// Until the queue is full, and once more.
	for err == nil {
		err = notify(path, strings.Repeat("x", 1024))
	}
	s.ready("1.0.0")
}
