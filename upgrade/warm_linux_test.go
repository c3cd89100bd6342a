package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perennial-go/perennial/internal/waittest"
)

// dialled is a connection that knows when it was asked for: addresses are
// used again.
type dialled struct {
	net.Conn
	at time.Time
}

// loss is a request without an answer.
type loss struct {
	err  error
	addr string // the client's; empty where no connection was made
	// The connection was asked for and failed at these times.
	from, to time.Time
}

// crowd is a load whose losses can be laid at somebody's door.
type crowd struct {
	stop context.CancelFunc
	wait sync.WaitGroup

	mu     sync.Mutex
	asked  int
	losses []loss
}

func startCrowd(r *rig, clients int) *crowd {
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{stop: cancel}
	for i := range clients {
		c.wait.Go(func() {
			transport := &http.Transport{DisableKeepAlives: i%2 == 0, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				at := time.Now()
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return dialled{conn, at}, nil
			}}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: time.Minute}
			for ctx.Err() == nil {
				l := post(client, r.url("/echo"))
				c.mu.Lock()
				c.asked++
				if l.to = time.Now(); l.err != nil {
					c.losses = append(c.losses, l)
				}
				c.mu.Unlock()
			}
		})
	}
	return c
}

// post sends a record, which no client repeats by itself.
func post(client *http.Client, url string) loss {
	var l loss
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if conn, ok := info.Conn.(dialled); ok {
			l.addr, l.from = conn.LocalAddr().String(), conn.at
		}
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("a record"))
	if err != nil {
		return loss{err: err}
	}
	res, err := client.Do(req)
	if err != nil {
		l.err = err
		return l
	}
	body, err := io.ReadAll(res.Body)
	if err == nil && string(body) != "a record" {
		err = fmt.Errorf("%s: %q", res.Status, body)
	}
	l.err = errors.Join(err, res.Body.Close())
	return l
}

func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// accept is one connection as the process that took it noted it.
type accept struct {
	pid  int
	addr string
	at   time.Time
}

func accepts(t *testing.T, path string) []accept {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []accept
	for line := range strings.Lines(string(data)) {
		var a accept
		var nano int64
		if _, err := fmt.Sscan(line, &a.pid, &a.addr, &nano); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		a.at = time.Unix(0, nano)
		all = append(all, a)
	}
	return all
}

func TestSuccessorKilledUnderLoadLosesOnlyWhatItHadAccepted(t *testing.T) {
	const rounds = 10
	r := newRig(t, time.Minute, nil)
	r.env.Accepts = filepath.Join(t.TempDir(), "accepts")
	restart(t, r, r.cmd.Path)
	incumbent := r.cmd.Process.Pid
	var deaths []time.Time
	c := startCrowd(r, 8)
	for i := range rounds {
		version := fmt.Sprintf("1.1.%d", i)
		r.ask(r.publish(build{Version: version}))
		successor := r.serves(version).PID
		enough := c.count() + rand.IntN(2000)
		waittest.Until(t, "some more requests", func() bool { return c.count() >= enough })
		deaths = append(deaths, killed(t, successor))
		s := r.ends(version)
		if s.State != RolledBack || s.Class != BadEnvironment || !strings.Contains(s.Reason, "signal: killed") {
			t.Errorf("%s: %s, class %s: %s", version, s.State, s.Class, s.Reason)
		}
		if pid := r.serves("1.0.0").PID; pid != incumbent {
			t.Fatalf("pid %d serves, the incumbent is %d", pid, incumbent)
		}
	}
	c.stop()
	c.wait.Wait()
	noted := accepts(t, r.env.Accepts)
	mustBeTheDeadOnes(t, c, noted, incumbent)
	var after []time.Duration
	for _, death := range deaths {
		i := slices.IndexFunc(noted, func(a accept) bool { return a.pid == incumbent && a.at.After(death) })
		if i < 0 {
			t.Fatal("the incumbent accepted nothing any more")
		}
		after = append(after, noted[i].at.Sub(death))
	}
	slices.Sort(after)
	t.Logf("accepting again after the death of a successor: median %v, all %v", after[rounds/2], after)
}

// restart kills r's agent and starts binary in its place.
func restart(t *testing.T, r *rig, binary string) {
	t.Helper()
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-r.done
	r.awaitFree()
	r.start(binary)
}

// killed ends a process by kill -9 and returns when it was dead.
func killed(t *testing.T, pid int) time.Time {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(waittest.Patience.Milliseconds())) //nolint:gosec // a descriptor
		if n == 1 {
			return time.Now()
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatalf("pid %d does not die: %v", pid, err)
		}
	}
}

// mustBeTheDeadOnes checks that each request without an answer had reached a
// connection, and one that the incumbent had not accepted.
func mustBeTheDeadOnes(t *testing.T, c *crowd, noted []accept, incumbent int) {
	t.Helper()
	mine := map[string][]time.Time{}
	for _, a := range noted {
		if a.pid == incumbent {
			mine[a.addr] = append(mine[a.addr], a.at)
		}
	}
	for _, l := range c.losses {
		switch {
		case l.addr == "":
			t.Errorf("no connection was made: %v", l.err)
		case slices.ContainsFunc(mine[l.addr], func(at time.Time) bool { return at.After(l.from) && at.Before(l.to) }):
			t.Errorf("the incumbent had accepted it: %v", l.err)
		case strings.HasSuffix(l.err.Error(), "http: server closed idle connection"):
			// How net/http calls an end between two requests; it has no name.
		case !errors.Is(l.err, io.EOF) && !errors.Is(l.err, syscall.ECONNRESET) && !errors.Is(l.err, syscall.EPIPE):
			t.Errorf("not the end of a dead process's connection: %v", l.err)
		}
	}
	t.Logf("%d requests, %d of them lost with a successor that had accepted them", c.asked, len(c.losses))
}
