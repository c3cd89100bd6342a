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
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// namespace is a network of its own, with one link to this one.
type namespace struct {
	tb   testing.TB
	name string
	link string // this side's end of it
	host string // this side's address
}

// namespaces counts those of this process.
var namespaces atomic.Int32

// newNamespace skips the test where the system does not let it make one.
func newNamespace(tb testing.TB) *namespace {
	tb.Helper()
	pid, number := os.Getpid(), int(namespaces.Add(1))
	n := &namespace{tb: tb, name: fmt.Sprintf("perennial-%d-%d", pid, number), link: fmt.Sprintf("pv%d.%d", pid, number)}
	// TEST-NET-3 is nobody's.
	subnet := fmt.Sprintf("203.0.113.%d", (pid+number)%60*4)
	ip := net.ParseIP(subnet).To4()
	host, peer := net.IPv4(ip[0], ip[1], ip[2], ip[3]+1), net.IPv4(ip[0], ip[1], ip[2], ip[3]+2)
	n.host = host.String()
	if out, err := exec.CommandContext(tb.Context(), "ip", "netns", "add", n.name).CombinedOutput(); err != nil {
		tb.Skipf("it wants the right to make network namespaces and the command ip: %v %s", err, out)
	}
	tb.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", n.name).CombinedOutput(); err != nil {
			tb.Errorf("namespace %s is left behind: %v %s", n.name, err, out)
		}
	})
	inside := n.link + "n"
	n.ip("link", "add", n.link, "type", "veth", "peer", "name", inside, "netns", n.name)
	// With the namespace it would go as well, but later than the next one begins.
	tb.Cleanup(func() { _ = exec.Command("ip", "link", "del", n.link).Run() })
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

// parted is a fleet of three, the last of which a partition can cut off.
type parted struct {
	*fleet
	net       *namespace
	far       *member
	busy      string // while it exists the first agent begins nothing
	directory *agent.Directory
}

// newParted runs it; of the agent that can be cut off, flags take the place of others.
func newParted(t *testing.T, flags ...string) parted {
	t.Helper()
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits for a lease to end")
	}
	p := parted{net: newNamespace(t), fleet: newFleet(t, 3, func(string) bool { return false })}
	p.release("1.0.0", "1.1.0")
	agentd(t, "release", "build", "--plain", "--key", p.key, "--repo", p.repo, "--version", "1.4.0", buildFaulty(t, "1.4.0")).ok(t)
	p.far = p.agents[2]
	p.far.wrap = []string{"ip", "netns", "exec", p.net.name, "env", "AGENTD_TEST_FAULT=yes"} // 1.4.0 is bad for it
	flags = append([]string{"--etcd", "http://" + p.net.relay(p.etcd.URL()[len("http://"):])}, flags...)
	p.busy = filepath.Join(p.dir, "busy")
	p.address()
	for i, m := range p.agents {
		args := []string{"--id", m.id, "--label", "env=test", "--heartbeat", "1s", "--ttl", "3s", "--listen", m.listen, "--admin", m.admin, "--state-dir", m.state}
		if m == p.far {
			args = append(args, flags...)
		}
		if i == 0 {
			args = append(args, "--rollout-controller=true", "--busy-file", p.busy)
		}
		m.launch(args...)
	}
	var err error
	if p.directory, err = agent.OpenDirectory(agent.EtcdConfig{Endpoints: []string{p.etcd.URL()}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.directory.Close() })
	for _, m := range p.agents {
		waittest.Nil(t, m.id+" is registered", func() error { _, err := p.entry(m); return err })
	}
	t.Cleanup(func() { // its successor, which launch does not know of
		e, err := p.entry(p.far)
		if err != nil {
			t.Logf("%s is not ended: %v", p.far.id, err)
			return
		}
		_ = sendSignal(e.PID, syscall.SIGTERM)
		waittest.Until(t, p.far.id+" has ended", func() bool { return !alive(e.PID) })
	})
	return p
}

// entry works also at the end, when the test's own context is over.
func (p *parted) entry(m *member) (agent.Entry, error) {
	return p.directory.Get(context.WithoutCancel(p.t.Context()), m.id)
}

// cutOff cuts the last agent off until the registry has forgotten it.
func (p *parted) cutOff() {
	p.t.Helper()
	p.net.cut()
	waittest.Until(p.t, "the agent that is cut off has left the registry", func() bool {
		_, err := p.entry(p.far)
		return errors.Is(err, agent.ErrNotRegistered)
	})
}

// runs waits until the registry has the last agent with a version.
func (p *parted) runs(version string) {
	p.t.Helper()
	waittest.Nil(p.t, "the agent that was cut off runs "+version, func() error {
		e, err := p.entry(p.far)
		if err == nil && (e.Version != version || e.Status == nil) {
			err = fmt.Errorf("it runs %s, and reports %+v", e.Version, e.Status)
		}
		return err
	})
}

// counts waits for what the books say.
func (p *parted) counts(what string, is func(*rollout.Plan, *rollout.Books) bool) (rollout.Past, rolloutStatus) {
	p.t.Helper()
	var past rollout.Past
	var now rolloutStatus
	waittest.Nil(p.t, what, func() (err error) {
		if past, now, err = p.opened(); err == nil && !is(now.Plan, now.Books) {
			last := past.Records[len(past.Records)-1]
			err = fmt.Errorf("%s: %+v, %+v; the last event: %s, %s", now.Plan.State, now.Books.Figures, now.Books.UnderWay, last.Event, last.Why)
		}
		return err
	})
	return past, now
}

// begin starts a rollout, one agent at a time: the last one of the fleet is the
// first in its order, and the first the next.
func (p *parted) begin(version, deadline string) {
	p.t.Helper()
	id := ""
	rank := func(i int) rollout.Rank { return rollout.RankOf(id, p.agents[i].id) }
	for n := 0; id == "" || rank(2) > rank(0) || rank(0) > rank(1); n++ {
		id = fmt.Sprintf("r-%d", n)
	}
	p.rollout("start", "--repo", p.repo, "--trust", p.trust, "--rolling", "--max-unavailable", "1", "--rollout-id", id, "--deadline", deadline, version).ok(p.t)
}

// oneByOne checks of a rollout that has completed that its agents were let in so,
// that many times.
func (p *parted) oneByOne(times int) rollout.Past {
	p.t.Helper()
	past, now := p.counts("the rollout has completed", func(p *rollout.Plan, _ *rollout.Books) bool { return p.State == rollout.Completed })
	if f := now.Books.Figures; f.Succeeded != 3 || f.Failed+f.Gone+f.Silent+f.Unavailable != 0 {
		p.t.Errorf("it has completed with %+v", f)
	}
	admitted := 0
	for _, r := range past.Records {
		if r.Event == rollout.EventAdmitted {
			admitted++
		}
		if r.Figures.Unavailable > 1 {
			p.t.Errorf("%d agents were unavailable: %s", r.Figures.Unavailable, r.Why)
		}
	}
	if admitted != times {
		p.t.Errorf("agents were let in %d times, want %d", admitted, times)
	}
	return past
}

// A rollout goes on without an agent that a partition has taken out of the
// registry. That one starts nothing on its own while it is cut off, and is let in,
// late, once it is back.
func TestAgentBehindAPartitionStartsNothingAndIsLetInLateOnceItIsBack(t *testing.T) {
	p := newParted(t)
	before, err := p.entry(p.far)
	if err != nil {
		t.Fatal(err)
	}
	p.cutOff()
	p.rollout("start", "--repo", p.repo, "--trust", p.trust, "--rolling", "--max-unavailable", "1", "--soak", "500ms", "--deadline", "30s", "--wait", "1m", "1.1.0").ok(t)
	_, now := p.books()
	if figures := now.Books.Figures; now.Plan.State != rollout.Completed || figures.Succeeded != 2 {
		t.Errorf("without the agent the rollout is %s with %+v", now.Plan.State, figures)
	}
	if slot := filepath.Base(p.far.current()); slot[:6] != "1.0.0-" || !alive(before.PID) {
		t.Errorf("the agent that is cut off boots %s", slot)
	}

	p.net.heal()
	p.runs("1.1.0")
	p.counts("the books count it", func(_ *rollout.Plan, b *rollout.Books) bool { return b.Figures.Succeeded == 3 })
}

// TestAgentBackFromAPartitionWaitsForItsTurn: the mark has passed it while it was away,
// and nobody has kept a place for it.
func TestAgentBackFromAPartitionWaitsForItsTurn(t *testing.T) {
	p := newParted(t)
	p.cutOff()
	if err := os.WriteFile(p.busy, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.begin("1.1.0", "2m")
	p.counts("another has the only place", func(_ *rollout.Plan, b *rollout.Books) bool { return b.Figures.Waiting == 1 })
	p.net.heal()
	p.counts("it is late", func(_ *rollout.Plan, b *rollout.Books) bool {
		return b.Figures.Late == 1 && b.Figures.Admitted == 1 && b.Figures.Unavailable == 1
	})
	if err := os.Remove(p.busy); err != nil {
		t.Fatal(err)
	}
	p.runs("1.1.0")
	p.oneByOne(3)
}

// commitsAlone are flags of an agent that ends its change before it knows that it is
// cut off, which its successor's health would tell.
var commitsAlone = []string{"--ttl", "12s", "--probation", "3s"}

// journal waits until the last agent's upgrade is at a state. It can be asked while it
// is cut off, too.
func (p *parted) journal(want upgrade.State) {
	p.t.Helper()
	waittest.Nil(p.t, "the agent's upgrade is "+string(want), func() error {
		r, err := upgrade.Inspect(p.far.state)
		if err == nil && r.Journal.State != want {
			err = fmt.Errorf("it is at %s: %s", r.Journal.State, r.Journal.Reason)
		}
		return err
	})
}

// cutOffInItsChange cuts the last agent off once it has begun.
func (p *parted) cutOffInItsChange(version, deadline string) {
	p.t.Helper()
	p.begin(version, deadline)
	waittest.Nil(p.t, "the agent that will be cut off has begun", func() error {
		e, err := p.entry(p.far)
		if err == nil && (e.Status == nil || e.Status.Rollout == nil || e.Status.Rollout.State != rollout.ReportStarted) {
			err = fmt.Errorf("it reports %+v", e.Status)
		}
		return err
	})
	p.cutOff()
	p.counts("it counts as unavailable", func(_ *rollout.Plan, b *rollout.Books) bool {
		return !b.UnderWay[p.far.id].Gone.IsZero() && b.Figures.Unavailable == 1 && b.Figures.UnderWay == 1 && b.Figures.Admitted == 1
	})
}

// TestAgentThatIsCutOffInItsChangeKeepsItsPlaceUntilItIsBack: were it not counted while
// nobody sees it, another would go down beside it.
func TestAgentThatIsCutOffInItsChangeKeepsItsPlaceUntilItIsBack(t *testing.T) {
	p := newParted(t, commitsAlone...)
	p.cutOffInItsChange("1.1.0", "2m")
	p.journal(upgrade.Committed)
	back := time.Now()
	p.net.heal()
	p.runs("1.1.0")
	first := true
	for _, r := range p.oneByOne(4).Records { // itself once more: it has joined anew
		if r.Event == rollout.EventAdmitted && !first && r.At.Before(back) {
			t.Errorf("another was let in before the one that was cut off was back: %s", r.Why)
		}
		first = first && r.Event != rollout.EventAdmitted
	}
}

// TestAgentThatGoesBackWhileItIsCutOffIsCountedAsFailedOnceItIsBack: nobody but itself
// knows what has become of it.
func TestAgentThatGoesBackWhileItIsCutOffIsCountedAsFailedOnceItIsBack(t *testing.T) {
	p := newParted(t, "--ttl", "12s")
	p.cutOffInItsChange("1.4.0", "2m")
	p.journal(upgrade.RolledBack)
	p.net.heal()
	_, now := p.counts("the rollout is reverted", func(p *rollout.Plan, _ *rollout.Books) bool { return p.State == rollout.Reverted })
	p.runs("1.0.0")
	if got := p.versions(); got["1.0.0"] != 2 { // the third is not reached from here
		t.Errorf("the agents run %v after it was reverted: %s", got, now.Plan.Why)
	}
	past, _ := p.books()
	events(t, past, rollout.EventStarted, rollout.EventAdmitted, rollout.EventReverting, rollout.EventReverted)
	for _, r := range past.Records {
		if r.Event == rollout.EventReverting && (r.Figures.Failed != 1 || r.Figures.Admitted != 1 || !strings.Contains(r.Why, p.far.id)) {
			t.Errorf("it goes back since %s, with %+v", r.Why, r.Figures)
		}
	}
}

// TestAgentThatIsCutOffInItsChangeForTooLongGoesBackOnceItIsBack: nobody else would ever
// tell it that the release which it runs was given up.
func TestAgentThatIsCutOffInItsChangeForTooLongGoesBackOnceItIsBack(t *testing.T) {
	p := newParted(t, commitsAlone...)
	p.cutOffInItsChange("1.1.0", "20s")
	_, now := p.counts("the rollout is given up", func(p *rollout.Plan, _ *rollout.Books) bool { return p.State == rollout.Reverted })
	if got := p.versions(); got["1.0.0"] != 2 {
		t.Errorf("the agents run %v after it was reverted: %s", got, now.Plan.Why)
	}
	p.journal(upgrade.Committed) // there is something to go back from
	p.net.heal()
	p.runs("1.0.0")
	p.counts("the books count it", func(_ *rollout.Plan, b *rollout.Books) bool {
		return b.Figures.Succeeded == 1 && b.Figures.Unavailable == 0
	})
}
