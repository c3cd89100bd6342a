// Package etcdtest gives a test a real etcd process of its own, which it can
// stop, kill, restart and cut off.
//
// The server is examples/internal/testetcd, built once per checkout into the
// system's temporary directory; the first test to run pays for the build.
package etcdtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

// startTimeout bounds one start of the process; a fast one takes 0.1 s.
const startTimeout = 60 * time.Second

// Server is an etcd process. Its methods fail the test that started it; they
// must not be called concurrently.
type Server struct {
	tb     testing.TB
	binary string
	dir    string
	addr   string // host:port; fixed by the first start

	process *exec.Cmd
	stdin   io.Closer
	exited  chan struct{}
	log     *syncBuffer
}

// Start runs an etcd on a free port with empty data until the test ends.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{tb: tb, binary: build(tb), dir: filepath.Join(tb.TempDir(), "etcd"), addr: "127.0.0.1:0", log: &syncBuffer{}}
	tb.Cleanup(func() {
		s.Kill()
		if tb.Failed() && s.log.String() != "" {
			tb.Logf("etcd %s said:\n%s", s.addr, s.log.String())
		}
	})
	s.start()
	return s
}

// URL is the address for clients; it stays the same over restarts.
func (s *Server) URL() string { return "http://" + s.addr }

// Client returns a client of the server that is closed when the test ends.
func (s *Server) Client(tb testing.TB) *clientv3.Client {
	tb.Helper()
	return newClient(tb, s.URL())
}

func newClient(tb testing.TB, endpoint string) *clientv3.Client {
	tb.Helper()
	c, err := etcdkv.Dial(etcdkv.ClientConfig{Endpoints: []string{endpoint}})
	if err != nil {
		tb.Fatalf("etcd client: %v", err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Stop ends the process in an orderly way and waits for its exit. Data and
// address are kept for Restart.
func (s *Server) Stop() {
	s.tb.Helper()
	if s.process == nil {
		return
	}
	_ = s.stdin.Close()
	select {
	case <-s.exited:
		s.process = nil
	case <-time.After(startTimeout):
		s.Kill()
		s.tb.Fatalf("etcd %s did not stop within %s and was killed", s.addr, startTimeout)
	}
}

// Kill ends the process at once, as kill -9 does, and waits for its exit.
func (s *Server) Kill() {
	s.tb.Helper()
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	<-s.exited
	_ = s.stdin.Close()
	s.process = nil
}

// Restart kills the process if it runs and starts it again on the same data
// and address.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	s.start()
}

// Wipe kills the process, deletes its data and starts an empty server on the
// same address: another cluster whose revisions begin again.
func (s *Server) Wipe() {
	s.tb.Helper()
	s.Kill()
	if err := os.RemoveAll(s.dir); err != nil {
		s.tb.Fatalf("etcd data: %v", err)
	}
	s.start()
}

// start retries for a while: another process may hold the fixed port for a
// moment, and an executable that was just written may be busy (ETXTBSY).
func (s *Server) start() {
	s.tb.Helper()
	var retry backoff.Backoff
	deadline := time.Now().Add(startTimeout)
	for {
		err := s.startOnce(time.Until(deadline))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("etcd did not start: %v\n%s", err, s.log.String())
		}
		_ = retry.Wait(s.tb.Context())
	}
}

func (s *Server) startOnce(timeout time.Duration) error {
	cmd := exec.Command(s.binary, "--data", s.dir, "--listen", s.addr)
	cmd.Stderr = s.log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line := make(chan string, 1)
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		text, _ := bufio.NewReader(stdout).ReadString('\n')
		line <- strings.TrimSpace(text)
		_ = cmd.Wait()
	}()
	select {
	case text := <-line:
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			_ = stdin.Close()
			<-exited
			return fmt.Errorf("want a URL on standard output, found %q", text)
		}
		s.addr, s.process, s.stdin, s.exited = u.Host, cmd, stdin, exited
		return nil
	case <-time.After(timeout):
		_ = cmd.Process.Kill()
		<-exited
		return errors.New("it printed no address in time")
	}
}

// syncBuffer collects the server's log while the test may read it.
type syncBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
