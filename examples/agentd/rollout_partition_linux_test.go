package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// namespace is a network of its own, with one link to this one.
type namespace struct {
	tb   testing.TB
	name string
	link string // this side's end of it
	host string // this side's address
}

// newNamespace skips the test where the system does not let it make one.
func newNamespace(tb testing.TB) *namespace {
	tb.Helper()
	n := &namespace{tb: tb, name: fmt.Sprintf("perennial-%d", os.Getpid()), link: fmt.Sprintf("pv%d", os.Getpid())}
	// TEST-NET-3 is nobody's.
	subnet := fmt.Sprintf("203.0.113.%d", os.Getpid()%60*4)
	ip := net.ParseIP(subnet).To4()
	host, peer := net.IPv4(ip[0], ip[1], ip[2], ip[3]+1), net.IPv4(ip[0], ip[1], ip[2], ip[3]+2)
	n.host = host.String()
	if out, err := exec.CommandContext(tb.Context(), "ip", "netns", "add", n.name).CombinedOutput(); err != nil {
		tb.Skipf("it wants the right to make network namespaces and the command ip: %v %s", err, out)
	}
	tb.Cleanup(func() {
		// With the namespace goes its end of the link, and with that the other.
		if out, err := exec.Command("ip", "netns", "del", n.name).CombinedOutput(); err != nil {
			tb.Errorf("namespace %s is left behind: %v %s", n.name, err, out)
		}
	})
	inside := n.link + "n"
	n.ip("link", "add", n.link, "type", "veth", "peer", "name", inside, "netns", n.name)
	n.ip("addr", "add", n.host+"/30", "dev", n.link)
	n.ip("link", "set", n.link, "up")
	n.ip("-n", n.name, "addr", "add", peer.String()+"/30", "dev", inside)
	n.ip("-n", n.name, "link", "set", inside, "up")
	n.ip("-n", n.name, "link", "set", "lo", "up")
	return n
}

func (n *namespace) ip(args ...string) {
	n.tb.Helper()
	if out, err := exec.CommandContext(n.tb.Context(), "ip", args...).CombinedOutput(); err != nil {
		n.tb.Fatalf("ip %q: %v %s", args, err, out)
	}
}

// cut drops every packet, and tells nobody.
func (n *namespace) cut() { n.ip("-n", n.name, "link", "set", n.link+"n", "down") }

func (n *namespace) heal() { n.ip("-n", n.name, "link", "set", n.link+"n", "up") }

// relay makes an address of this network one that the namespace reaches.
func (n *namespace) relay(to string) (addr string) {
	n.tb.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(n.host, "0"))
	if err != nil {
		n.tb.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	n.tb.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	running.Go(func() {
		for {
			from, err := ln.Accept()
			if err != nil {
				return
			}
			behind, err := net.Dial("tcp", to)
			if err != nil {
				_ = from.Close()
				continue
			}
			mu.Lock()
			open = append(open, from, behind)
			mu.Unlock()
			for _, way := range [][2]net.Conn{{from, behind}, {behind, from}} {
				running.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_, _ = way[0].Close(), way[1].Close()
				})
			}
		}
	})
	return ln.Addr().String()
}

// A rollout goes on without an agent that a partition has taken out of the
// registry. That one starts nothing on its own while it is cut off, and is let in,
// late, once it is back.
func TestAgentBehindAPartitionStartsNothingAndIsLetInLateOnceItIsBack(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a lease to end")
	}
	n := newNamespace(t)
	f := newFleet(t, 3, func(string) bool { return false })
	f.release("1.0.0", "1.1.0")
	far := f.agents[2]
	far.wrap = []string{"ip", "netns", "exec", n.name}
	relayed := "http://" + n.relay(f.etcd.URL()[len("http://"):])
	f.address()
	for i, m := range f.agents {
		args := []string{"--id", m.id, "--label", "env=test", "--heartbeat", "1s", "--ttl", "3s", "--listen", m.listen, "--admin", m.admin, "--state-dir", m.state}
		if m == far {
			args = append(args, "--etcd", relayed)
		}
		if i == 0 {
			args = append(args, "--rollout-controller=true")
		}
		m.launch(args...)
	}
	directory, err := agent.OpenDirectory(agent.EtcdConfig{Endpoints: []string{f.etcd.URL()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = directory.Close() })
	// Also at the end, when the test's own context is over.
	get := func(m *member) (agent.Entry, error) { return directory.Get(context.WithoutCancel(t.Context()), m.id) }
	for _, m := range f.agents {
		waittest.Nil(t, m.id+" is registered", func() error { _, err := get(m); return err })
	}
	before, err := get(far)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // its successor, which launch does not know of
		e, err := get(far)
		if err != nil {
			t.Logf("%s is not ended: %v", far.id, err)
			return
		}
		_ = sendSignal(e.PID, syscall.SIGTERM)
		waittest.Until(t, far.id+" has ended", func() bool { return !alive(e.PID) })
	})

	n.cut()
	waittest.Until(t, "the agent that is cut off has left the registry", func() bool {
		_, err := get(far)
		return errors.Is(err, agent.ErrNotRegistered)
	})
	f.rollout("start", "--repo", f.repo, "--trust", f.trust, "--rolling", "--max-unavailable", "1", "--soak", "500ms", "--deadline", "30s", "--wait", "1m", "1.1.0").ok(t)
	_, now := f.books()
	if figures := now.Books.Figures; now.Plan.State != rollout.Completed || figures.Succeeded != 2 {
		t.Errorf("without the agent the rollout is %s with %+v", now.Plan.State, figures)
	}
	if slot := filepath.Base(far.current()); slot[:6] != "1.0.0-" || !alive(before.PID) {
		t.Errorf("the agent that is cut off boots %s", slot)
	}

	n.heal()
	waittest.Nil(t, "the agent that was cut off runs the release", func() error {
		e, err := get(far)
		if err == nil && e.Version != "1.1.0" {
			err = fmt.Errorf("it runs %s, and reports %+v", e.Version, e.Status)
		}
		return err
	})
	waittest.Nil(t, "the books count it", func() error {
		if _, now = f.books(); now.Books.Figures.Succeeded != 3 {
			return fmt.Errorf("%+v", now.Books.Figures)
		}
		return nil
	})
}
