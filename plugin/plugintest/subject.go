package plugintest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// maxSocketPath is what a socket's address holds on every Unix.
const maxSocketPath = 103

// fullAfter is how long a pipe takes nothing when it is full.
const fullAfter = 50 * time.Millisecond

// inherited are the variables that a plugin sees of its host's environment.
func inherited() []string { return []string{"PATH", "HOME", "TZ", "LANG", "LC_ALL", "TMPDIR"} }

// subject is one process of the plugin.
type subject struct {
	suite   *suite
	cmd     *exec.Cmd
	room    string // its working directory
	sockets string // where its socket is to be
	address string // the socket, once it has said so
	out     *output
	lines   chan string // the first line of standard output
	exited  chan struct{}

	mu     sync.Mutex
	reaped bool
}

// conditions are what a process is started with. The zero value is what a host
// gives it.
type conditions struct {
	bare     bool          // no environment but what the protocol needs
	cookie   string        // another value; "-" for none
	orphan   time.Duration // default a minute
	shutEyes bool          // nothing is read after the handshake
}

// start begins a process, which is killed at the end of the check at the
// latest.
func (s *suite) start(tb testing.TB, c conditions) *subject {
	tb.Helper()
	room := privateDir(tb)
	p := &subject{suite: s, room: room, sockets: filepath.Join(room, "socket"), lines: make(chan string, 1), exited: make(chan struct{})}
	if err := os.Mkdir(p.sockets, 0o700); err != nil {
		tb.Fatal(err)
	}
	var err error
	if p.out, err = openOutput(room); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.out.close)
	if err := p.begin(p.environment(c)); err != nil {
		tb.Fatalf("%s cannot be executed: %v", s.binary, err)
	}
	tb.Cleanup(func() {
		p.kill()
		if tb.Failed() {
			tb.Logf("the plugin, process %d, ended with %s; it wrote to standard error: %s", p.cmd.Process.Pid, p.cmd.ProcessState, p.out.stderr.said())
		}
	})
	go p.wait()
	go p.listen(c.shutEyes)
	return p
}

// wait reaps the process and ends what it leaves behind.
func (p *subject) wait() {
	defer close(p.exited)
	if awaitExit(p.cmd.Process.Pid) {
		p.mu.Lock()
		killGroup(p.cmd.Process)
		_ = p.cmd.Wait() // ProcessState tells
	} else {
		_ = p.cmd.Wait()
		p.mu.Lock()
	}
	defer p.mu.Unlock()
	p.reaped = true
	// The pipe has no end of file: this ends the wait for a line that does not
	// come. If there is no room for it, there is one.
	_ = p.out.stdout.ours.SetWriteDeadline(time.Now().Add(fullAfter))
	_, _ = p.out.stdout.ours.WriteString("\n")
}

// terminate sends SIGTERM, as a host does, while the id is the process's own.
func (p *subject) terminate(tb testing.TB) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	if err := terminate(p.cmd.Process); err != nil {
		tb.Fatal(err)
	}
}

// kill ends the process and returns when it is gone.
func (p *subject) kill() {
	p.mu.Lock()
	if !p.reaped {
		killGroup(p.cmd.Process)
	}
	p.mu.Unlock()
	<-p.exited
}

// begin starts the command, again for as long as another thread's fork holds
// a writable descriptor of a file just written (golang/go#22315).
func (p *subject) begin(env []string) error {
	exe, err := os.Open(p.suite.binary)
	if err != nil {
		return err
	}
	defer func() { _ = exe.Close() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 200 {
		p.cmd = &exec.Cmd{Args: []string{p.suite.Manifest.Name}, Dir: p.room, Env: env}
		p.cmd.Stdout, p.cmd.Stderr = p.out.stdout.child, p.out.stderr.child
		locate(p.cmd, exe)
		isolate(p.cmd)
		if err = p.cmd.Start(); err == nil || !errors.Is(err, syscall.ETXTBSY) {
			return err
		}
		<-tick.C
	}
	return err
}

// listen hands on the first line and reads the rest of what the process
// writes, unless nobody is to.
func (p *subject) listen(shutEyes bool) {
	defer close(p.lines)
	if !shutEyes {
		go p.out.stderr.drain(p.out.stderr.ours)
	}
	r := bufio.NewReaderSize(p.out.stdout.ours, maxHandshake)
	line, err := r.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return
	}
	p.lines <- strings.TrimSuffix(string(line), "\n")
	if !shutEyes {
		go p.out.stdout.drain(r)
	}
}

func (p *subject) environment(c conditions) []string {
	env := []string{"PATH=" + os.Getenv("PATH")}
	if !c.bare {
		env = nil
		for _, key := range inherited() {
			if v, ok := os.LookupEnv(key); ok {
				env = append(env, key+"="+v)
			}
		}
	}
	switch c.cookie {
	case "":
		env = append(env, pluginpb.CookieKey+"="+pluginpb.CookieValue)
	case "-":
	default:
		env = append(env, pluginpb.CookieKey+"="+c.cookie)
	}
	if c.orphan == 0 {
		c.orphan = time.Minute
	}
	return append(env,
		"PERENNIAL_PLUGIN_ROOM="+p.room,
		pluginpb.OrphanKey+"="+strconv.Itoa(int(c.orphan.Seconds())),
		"PLUGIN_MIN_PORT=0", "PLUGIN_MAX_PORT=0",
		"PLUGIN_PROTOCOL_VERSIONS="+strconv.Itoa(pluginpb.ProtocolVersion),
		"PLUGIN_UNIX_SOCKET_DIR="+p.sockets,
	)
}

// launch starts a process as a host does and waits for its handshake.
func (s *suite) launch(tb testing.TB) *subject {
	tb.Helper()
	p := s.start(tb, conditions{})
	p.shakeHands(tb)
	return p
}

// orphanable is launch with the short time that the suite gives a plugin
// without a host.
func (s *suite) orphanable(tb testing.TB) *subject {
	tb.Helper()
	p := s.start(tb, conditions{orphan: s.limits.orphan})
	p.shakeHands(tb)
	return p
}

// shakeHands waits for the first line, which must be the handshake.
func (p *subject) shakeHands(tb testing.TB) {
	tb.Helper()
	var err error
	if p.address, err = parseHandshake(p.firstLine(tb)); err != nil {
		tb.Fatal(err)
	}
}

func (p *subject) firstLine(tb testing.TB) string {
	tb.Helper()
	late := time.NewTimer(p.suite.limits.start)
	defer late.Stop()
	select {
	case line, ok := <-p.lines:
		if !ok {
			tb.Fatal("standard output cannot be read")
		}
		if line == "" && p.hasEnded() {
			tb.Fatalf("the process ended before the handshake: %s", p.cmd.ProcessState)
		}
		return line
	case <-late.C:
		tb.Fatalf("no handshake within %s: a line on standard output, flushed", p.suite.limits.start)
	}
	return ""
}

// hasEnded tells whether the first line may be that of wait.
func (p *subject) hasEnded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reaped
}

// mustLive fails the check if the process has ended.
func (p *subject) mustLive(tb testing.TB, when string) {
	tb.Helper()
	select {
	case <-p.exited:
		tb.Fatalf("%s the process has ended: %s", when, p.cmd.ProcessState)
	default:
	}
}

// mustStay fails the check if the process ends within d.
func (p *subject) mustStay(tb testing.TB, d time.Duration, why string) {
	tb.Helper()
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-p.exited:
		tb.Fatalf("the process ended (%s) although %s", p.cmd.ProcessState, why)
	case <-over.C:
	}
}

// mustEnd waits for the end of the process and says how it ended.
func (p *subject) mustEnd(tb testing.TB, limit time.Duration, why string) *os.ProcessState {
	tb.Helper()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-p.exited:
	case <-late.C:
		tb.Fatalf("the process has not ended within %s: %s", limit, why)
	}
	return p.cmd.ProcessState
}

// dial opens a connection to the socket.
func (p *subject) dial(tb testing.TB) net.Conn {
	tb.Helper()
	conn, err := (&net.Dialer{Timeout: p.suite.limits.answer}).DialContext(tb.Context(), "unix", p.address)
	if err != nil {
		tb.Fatalf("the socket of the handshake takes no connection: %v", err)
	}
	return conn
}

// privateDir makes a directory whose path leaves room for a socket's name.
func privateDir(tb testing.TB) string {
	tb.Helper()
	for _, base := range []string{os.TempDir(), "/tmp"} {
		dir, err := os.MkdirTemp(base, "plugintest-") //nolint:usetesting // a test's own directory has too long a name
		if err != nil {
			continue
		}
		tb.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				tb.Error(err)
			}
		})
		if len(dir)+len("/socket/")+32 <= maxSocketPath {
			return dir
		}
	}
	tb.Fatalf("neither %s nor /tmp can hold a directory for a socket", os.TempDir())
	return ""
}

// output is what the process writes to: pipes with names, which are open for
// reading however many hosts come and go.
type output struct {
	stdout, stderr *pipe
}

// pipe is one of them.
type pipe struct {
	ours  *os.File // does not block a thread, and Close ends a Read
	child *os.File
	tail  tail
}

func openOutput(room string) (*output, error) {
	out, err := openPipe(filepath.Join(room, "stdout"))
	if err != nil {
		return nil, err
	}
	stderr, err := openPipe(filepath.Join(room, "stderr"))
	if err != nil {
		return nil, errors.Join(err, out.close())
	}
	return &output{stdout: out, stderr: stderr}, nil
}

func (o *output) close() { _ = errors.Join(o.stdout.close(), o.stderr.close()) }

func (p *pipe) close() error { return errors.Join(p.ours.Close(), p.child.Close()) }

func (p *pipe) drain(r io.Reader) { _, _ = io.Copy(&p.tail, r) }

// fill leaves no room for another byte.
func (p *pipe) fill() error {
	junk := []byte(strings.Repeat("nobody reads this line\n", 100))
	for _, piece := range [][]byte{junk, junk[len(junk)-1:]} {
		for {
			if err := p.ours.SetWriteDeadline(time.Now().Add(fullAfter)); err != nil {
				return err
			}
			_, err := p.ours.Write(piece)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return fmt.Errorf("filling %s: %w", p.ours.Name(), err)
			}
		}
	}
	return nil
}

func (p *pipe) said() string {
	text := p.tail.String()
	if text == "" {
		return "nothing"
	}
	return text
}
