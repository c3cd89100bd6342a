package upgrade

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// manager holds sockets as systemd does and starts agents on them.
type manager struct {
	testing.TB
	names []string
	files []*os.File
	// pid is what LISTEN_PID says; empty is the truth.
	pid string
}

// listen opens a socket and returns its address.
func (m *manager) listen(name, network, addr string) string {
	m.Helper()
	var file *os.File
	if network == "udp" || network == "unixgram" {
		conn, err := net.ListenPacket(network, addr)
		if err != nil {
			m.Fatal(err)
		}
		addr = conn.LocalAddr().String()
		file = m.keep(name, conn.(interface{ File() (*os.File, error) }), conn.Close)
	} else {
		ln, err := net.Listen(network, addr)
		if err != nil {
			m.Fatal(err)
		}
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		addr = ln.Addr().String()
		file = m.keep(name, ln.(interface{ File() (*os.File, error) }), ln.Close)
	}
	m.Cleanup(func() { _ = file.Close() })
	return addr
}

func (m *manager) keep(name string, socket interface{ File() (*os.File, error) }, closeSocket func() error) *os.File {
	m.Helper()
	file, err := socket.File()
	if err != nil {
		m.Fatal(err)
	}
	if err := closeSocket(); err != nil {
		m.Fatal(err)
	}
	m.names, m.files = append(m.names, name), append(m.files, file)
	return file
}

// command starts binary with the sockets as descriptors from 3 on, by way of
// an exec under the pid that LISTEN_PID names.
func (m *manager) command(binary string) *exec.Cmd {
	pid := m.pid
	if pid == "" {
		pid = "$$"
	}
	script := `LISTEN_PID=` + pid + ` LISTEN_FDS="$1" LISTEN_FDNAMES="$2"; export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES; exec "$0"`
	cmd := exec.Command("/bin/sh", "-c", script, binary, string(rune('0'+len(m.files))), strings.Join(m.names, ":"))
	cmd.ExtraFiles = m.files
	return cmd
}

func TestSocketsOfTheServiceManagerGoFromReleaseToRelease(t *testing.T) {
	t.Parallel()
	m := &manager{TB: t}
	r := prepareRig(t, 300*time.Millisecond, nil)
	dir := filepath.Dir(r.env.Address)
	stream, gram := filepath.Join(dir, "stream"), filepath.Join(dir, "gram")
	any1 := m.listen("agent.socket", "tcp", ":0")
	_, port, err := net.SplitHostPort(any1)
	if err != nil {
		t.Fatal(err)
	}
	m.listen("stats", "udp", "127.0.0.1:0")
	m.listen("", "unix", stream)
	m.listen("agent.socket", "unixgram", gram)
	later := m.listen("", "tcp", "127.0.0.1:0")
	first := []testSocket{
		{"", "tcp", "0.0.0.0:" + port},
		{"stats", "udp", "127.0.0.1:0"},
		{"", "unix", stream},
		{"", "unixgram", gram},
		// One that the service manager does not have.
		{"own", "tcp", "127.0.0.1:0"},
	}
	more := append(append([]testSocket{}, first...), testSocket{"", "tcp", later})
	r.env.Sockets = map[string][]testSocket{"1.0.0": first, "1.1.0": more, "1.2.0": more}
	r.command = m.command
	r.first(build{Version: "1.0.0"})
	statsAddr := localAddr(t, m.files[1])
	check := func(version string) {
		t.Helper()
		r.answered(version, version)
		o := r.opened(version)
		if o.Addresses[0] != any1 || o.Addresses[1] != statsAddr {
			t.Errorf("%s listens on %v, want the service manager's %s and %s", version, o.Addresses, any1, statsAddr)
		}
		if len(o.Environment) > 0 {
			t.Errorf("%s would pass %v to its subprocesses", version, o.Environment)
		}
	}
	check("1.0.0")
	waittest.Until(t, "the log names the socket that nobody claims", func() bool { return strings.Contains(r.logged(), later) })
	r.commits(build{Version: "1.1.0"})
	check("1.1.0")
	r.rollsBack(build{Version: "1.2.0", Fault: "unhealthy"})
	r.answered("1.1.0", "1.1.0")

	// The end of the agent, the next start and its exec of current.
	before := []uint64{inode(t, stream), inode(t, gram)}
	holder := r.holder()
	if err := syscall.Kill(holder, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the agent has ended", func() bool { return r.holder() == 0 })
	if after := []uint64{inode(t, stream), inode(t, gram)}; !slices.Equal(before, after) {
		t.Error("the agent removed the service manager's socket files")
	}
	r.start(makeBinary(t, build{Version: "1.0.0"}))
	if w := r.serves("1.1.0"); w.PID != r.cmd.Process.Pid {
		t.Errorf("pid %d serves, %d was started", w.PID, r.cmd.Process.Pid)
	}
	check("1.1.0")
}

func localAddr(tb testing.TB, f *os.File) string {
	tb.Helper()
	_, addr, err := localAddress(f)
	if err != nil {
		tb.Fatal(err)
	}
	return addr
}

func TestSocketsMeantForAnotherProcessAreNotTaken(t *testing.T) {
	t.Parallel()
	m := &manager{TB: t, pid: "1"}
	r := prepareRig(t, 300*time.Millisecond, nil)
	addr := m.listen("web", "tcp", "127.0.0.1:0")
	r.env.Sockets = map[string][]testSocket{"1.0.0": {{"web", "tcp", "127.0.0.1:0"}}}
	r.command = m.command
	r.first(build{Version: "1.0.0"})
	if got := r.opened("1.0.0").Addresses[0]; got == addr {
		t.Errorf("it took %s, though LISTEN_PID names another process", got)
	}
}

func TestSocketsMeantForTheSupervisorAreTaken(t *testing.T) {
	t.Parallel()
	m := &manager{TB: t}
	r := prepareRig(t, 300*time.Millisecond, nil)
	r.env.Supervise = SuperviseAlways
	addr := m.listen("web", "tcp", "127.0.0.1:0")
	one := []testSocket{{"web", "tcp", "127.0.0.1:0"}}
	r.env.Sockets = map[string][]testSocket{"1.0.0": one, "1.1.0": one}
	r.command = m.command
	r.first(build{Version: "1.0.0"})
	r.commits(build{Version: "1.1.0"})
	for _, version := range []string{"1.0.0", "1.1.0"} {
		if got := r.opened(version).Addresses[0]; got != addr {
			t.Errorf("%s listens on %s, the supervisor was given %s", version, got, addr)
		}
	}
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-r.done
}

func TestSocketOfTheServiceManagerIsFoundByNameThenAddress(t *testing.T) {
	pool := func() activatedSockets {
		return activatedSockets{
			{network: "tcp", addr: "[::]:80"},
			{network: "tcp", addr: "127.0.0.1:80"},
			{network: "udp", addr: "[::]:80"},
			{network: "unix", addr: "/run/a"},
			{network: "unixgram", addr: "/run/b"},
			{network: "unix", addr: "@b"},
			{network: "tcp", addr: "0.0.0.0:81", name: "web"},
			{network: "tcp", addr: "10.0.0.1:82", name: "web"},
			{network: "tcp", addr: "[fe80::1%lo]:83"},
			{addr: "a connection", name: "web"},
		}
	}
	for _, c := range []struct {
		name, network, addr string
		want                int // -1 is none
	}{
		{"", "tcp", ":80", 0},
		{"", "tcp", "0.0.0.0:80", 0},
		{"", "tcp4", ":80", 0},
		{"", "tcp6", "[::]:80", 0},
		{"", "tcp", "127.0.0.1:80", 1},
		{"", "udp", ":80", 2},
		{"", "unix", "/run/a", 3},
		{"", "unix", "/run/b", -1},
		{"", "unixgram", "/run/b", 4},
		{"", "unixgram", "/run/a", -1},
		{"", "unix", "@b", 5},
		{"", "tcp", ":81", 6},
		{"", "tcp6", "[::]:81", -1},
		{"", "tcp", ":82", -1}, // one interface is not all of them
		{"", "tcp", "10.0.0.2:80", -1},
		{"", "tcp", "[fe80::1%lo]:83", 8},
		{"", "tcp", "[fe80::1%eth0]:83", -1},
		{"", "tcp", "127.0.0.1:0", -1},
		{"web", "tcp", "127.0.0.1:0", 6},
		{"web", "tcp", "10.0.0.1:82", 7},
		{"web", "tcp", "127.0.0.1:80", 6},
		{"web", "udp", "127.0.0.1:9", -1},
		{"other", "tcp", "127.0.0.1:80", 1},
	} {
		all := pool()
		got := slices.Index(all, all.claim(c.name, c.network, c.addr))
		if got != c.want {
			t.Errorf("%q %s %s: socket %d, want %d", c.name, c.network, c.addr, got, c.want)
		}
		if got >= 0 && all.claim("", all[got].network, all[got].addr) == all[got] {
			t.Errorf("%s %s was claimed twice", c.network, c.addr)
		}
	}
}

func TestConnectionFromTheServiceManagerIsNoListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if network, addr, err := localAddress(file); err == nil {
		t.Errorf("a connection counts as a listener on %s %s", network, addr)
	}
}
