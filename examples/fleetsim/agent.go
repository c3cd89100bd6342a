package fleetsim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// AgentConfig describes an agent.
type AgentConfig struct {
	ID     string
	Labels map[string]string
	// Fleet is whose plan it follows.
	Fleet string
	Rack  *Rack
	// Ledger is told when it is down.
	Ledger *Ledger
	// Dir is where the follower keeps its report; "" = nowhere.
	Dir string
	// Release is what it runs at first.
	Release release.Pin
	// Fate tells what becomes of what it is asked to do.
	Fate func(id string, o rollout.Order) Fate
	// Staged has all that it is asked to run be there already.
	Staged bool
	// Download and Probation are how long those take, each more or less by half.
	Download, Probation time.Duration
	// Spread tells the most that a change of its status waits until it is written;
	// nil = it does not.
	Spread func() time.Duration
	// OnBegin is called when it starts; may be nil. It must not block.
	OnBegin func(id string, o rollout.Order)
	// OnDoom is told of an agent whose fate it is to die now; it must not block.
	OnDoom func(a *Agent, f Fate)
}

// Fate is what becomes of a change.
type Fate string

// The fates.
const (
	Works     Fate = ""           // it runs what was asked for
	RollsBack Fate = "rolls back" // it fails on probation
	Dies      Fate = "dies"       // the whole agent dies on probation, and comes back
	Alerts    Fate = "alerts"     // it runs, and a critical alert begins to fire
	FallsBack Fate = "falls back" // it passes, dies later, and boots what ran before
)

// Agent is a simulated agent. Its methods may be called concurrently.
type Agent struct {
	id  string
	cfg AgentConfig

	// What its process has; nil while it is dead.
	mu       sync.Mutex
	process  *process
	registry registered

	// What its host has, whatever becomes of the process.
	body body
}

// body is what lies on the disk.
type body struct {
	running, before release.Pin
	staged, ran     map[release.Pin]bool
	started         time.Time
	alert           time.Time // since when it fires; zero = it does not
	slowest         time.Duration
	attempt         attempt
}

// attempt is what the host was asked to do last.
type attempt struct {
	request       string
	state         rollout.ReportState
	reason, class string
	timer         *time.Timer // of what comes next; nil = nothing
}

// registered is the registration as it was written.
type registered struct {
	lease, joined, revision int64
	value                   string
	report                  *rollout.Report // of the status beside it
}

// process is one life of an agent.
type process struct {
	ctx      context.Context //nolint:containedctx // of the process
	end      context.CancelFunc
	running  sync.WaitGroup
	follower *rollout.Follower
	dirty    chan struct{}

	spread func() time.Duration // AgentConfig.Spread
	told   atomic.Bool          // it is registered
	waits  atomic.Bool          // until it is its turn to write
}

// NewAgent starts nothing.
func NewAgent(cfg AgentConfig) *Agent {
	if cfg.Fate == nil {
		cfg.Fate = func(string, rollout.Order) Fate { return Works }
	}
	if cfg.OnBegin == nil {
		cfg.OnBegin = func(string, rollout.Order) {}
	}
	if cfg.OnDoom == nil {
		cfg.OnDoom = func(*Agent, Fate) {}
	}
	return &Agent{id: cfg.ID, cfg: cfg, body: body{running: cfg.Release, staged: map[release.Pin]bool{}, ran: map[release.Pin]bool{}}}
}

// ID is the agent's.
func (a *Agent) ID() string { return a.id }

// Start begins a life of the agent, which lasts until ctx ends or Kill.
func (a *Agent) Start(ctx context.Context) error {
	p := &process{dirty: make(chan struct{}, 1), spread: a.cfg.Spread}
	p.ctx, p.end = context.WithCancel(ctx)
	state := ""
	if a.cfg.Dir != "" {
		state = filepath.Join(a.cfg.Dir, a.id+".json")
	}
	a.resume()
	var err error
	p.follower, err = rollout.NewFollower(rollout.FollowerConfig{
		Client: a.cfg.Rack.client, Root: a.cfg.Rack.root, Fleet: a.cfg.Fleet,
		Self: a.self, Host: a, Renewed: a.renewed, State: state, OnReport: p.touch,
	})
	if err != nil {
		p.end()
		return err
	}
	a.mu.Lock()
	a.process, a.registry = p, registered{}
	a.body.started = time.Now()
	a.mu.Unlock()
	p.running.Go(func() { _ = p.follower.Run(p.ctx) }) // ends with ctx only
	p.running.Go(func() { a.publish(p) })
	a.cfg.Rack.add(a)
	return nil
}

// resume finishes or undoes what an earlier life has left.
func (a *Agent) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := &a.body.attempt; t.state == rollout.ReportStarted {
		t.state, t.reason, t.class = rollout.ReportFailed, "the host died while the release was on probation", string(upgrade.BadEnvironment)
	}
	a.cfg.Ledger.Rise(a.id)
}

// Kill ends the agent as kill -9 does: what it has in etcd stays for as long as
// its lease would have lived, and then goes by another's hand, since the rack's
// lease lives on.
func (a *Agent) Kill(ctx context.Context, undertaker *clientv3.Client) {
	a.mu.Lock()
	p := a.process
	if p == nil {
		a.mu.Unlock()
		return
	}
	p.end() // before it is noted that it is dead: it does nothing more by then
	a.mu.Unlock()
	a.cfg.Rack.remove(a)
	p.running.Wait()
	a.mu.Lock()
	a.process = nil
	was, under := a.registry, a.body.attempt.state == rollout.ReportStarted
	a.mu.Unlock()
	if under {
		a.cfg.Ledger.Die(a.id)
	}
	if was.lease != 0 {
		a.cfg.Rack.bury(ctx, undertaker, a.id, was.revision)
	}
}

// Alive reports whether the agent has a process.
func (a *Agent) Alive() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.process != nil
}

// Runs returns the release that it runs, or would.
func (a *Agent) Runs() release.Pin {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.body.running
}

// Ran reports whether it has ever changed to a release, and served with it.
func (a *Agent) Ran(p release.Pin) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.body.ran[p]
}

// Told reports whether etcd has its last report.
func (a *Agent) Told() bool {
	report := a.Report()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.registry.report == report
}

// Alerts reports whether an alert fires.
func (a *Agent) Alerts() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.body.alert.IsZero()
}

// Slowest is the longest that a change took beyond what it is set to, or that etcd
// took to have what the agent said.
func (a *Agent) Slowest() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.body.slowest
}

// UnderWay reports whether it is in the middle of a change.
func (a *Agent) UnderWay() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.body.attempt.state == rollout.ReportStarted
}

// String tells how it is, for people.
func (a *Agent) String() string {
	report := a.Report()
	a.mu.Lock()
	defer a.mu.Unlock()
	_, stands := a.cfg.Rack.session.Renewed()
	text := fmt.Sprintf("%s runs %s, %s of %s, registered under %x since %d", a.id, a.body.running.Version, a.body.attempt.state, a.body.attempt.request, a.registry.lease, a.registry.joined)
	if report != nil {
		text += fmt.Sprintf(", and reports %s of %s: %s", report.State, report.Request, report.Reason)
	}
	if a.process == nil {
		text += ", and is dead"
	}
	return text + fmt.Sprintf("; its rack has %x, which stands: %t", a.cfg.Rack.session.Lease(), stands)
}

// Report is what it says about the plan.
func (a *Agent) Report() *rollout.Report {
	a.mu.Lock()
	p := a.process
	a.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.follower.Report()
}

// touch has the agent write what it has in etcd again.
func (a *Agent) touch() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.process != nil {
		a.process.touch()
	}
}

// touch has the agent write what it has in etcd: at once while it is not registered,
// and else in its turn.
func (p *process) touch() {
	if p.spread == nil || !p.told.Load() {
		p.write()
	} else if !p.waits.Swap(true) {
		time.AfterFunc(rand.N(max(p.spread(), 1)), func() { //nolint:gosec // no secret
			p.waits.Store(false)
			p.write()
		})
	}
}

func (p *process) write() {
	select {
	case p.dirty <- struct{}{}:
	default:
	}
}

// self is the agent as the registry has it.
func (a *Agent) self() rollout.Member {
	a.mu.Lock()
	defer a.mu.Unlock()
	return rollout.Member{ID: a.id, Labels: a.cfg.Labels, Host: a.id, Platform: platform, Joined: a.registry.joined}
}

// renewed tells how old the registration's renewal is, and whether it stands for
// certain. One under another lease is gone, whatever has been heard of that one
// since.
func (a *Agent) renewed() (ago time.Duration, stands bool) {
	a.mu.Lock()
	lease := a.registry.lease
	a.mu.Unlock()
	ago, stands = a.cfg.Rack.session.Renewed()
	return ago, stands && lease != 0 && lease == a.cfg.Rack.session.Lease()
}

// publish keeps what the agent has in etcd up to date.
func (a *Agent) publish(p *process) {
	retry := backoff.Backoff{Max: time.Second}
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.dirty:
		}
		lease := a.cfg.Rack.leased()
		if lease == 0 {
			continue // it is told again once there is one
		}
		asked := time.Now()
		err := a.write(p, lease)
		a.took(time.Since(asked))
		if err != nil {
			if retry.Wait(p.ctx) != nil {
				return
			}
			p.touch()
			continue
		}
		retry.Reset()
	}
}

func (a *Agent) took(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.body.slowest = max(a.body.slowest, d)
}

// write puts registration and status under a lease.
func (a *Agent) write(p *process, lease int64) error {
	report := p.follower.Report()
	reg, status := a.values(report)
	a.mu.Lock()
	was := a.registry
	a.mu.Unlock()
	now, err := a.cfg.Rack.put(p.ctx, lease, a.id, was, reg, status)
	if err != nil {
		return err
	}
	now.report = report
	a.mu.Lock()
	if a.process == p {
		a.registry = now
	}
	a.mu.Unlock()
	p.told.Store(true)
	if was.lease != now.lease || was.joined != now.joined {
		p.follower.Touch()
	}
	return nil
}

// platform is that of all simulated agents.
const platform = "linux/amd64"

// values are what the agent has in etcd.
func (a *Agent) values(report *rollout.Report) (agent.Registration, agent.Status) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := &a.body
	now := time.Now()
	reg := agent.Registration{
		Schema: 1, ID: a.id, Instance: a.id, Version: b.running.Version, ManifestDigest: b.running.Digest,
		BinaryDigest: b.running.Digest[len("sha256:"):], Platform: platform, Runtime: "go", Labels: a.cfg.Labels,
		Fleet: a.cfg.Fleet, Host: a.id, PID: 1, Started: b.started, State: agent.Event{State: agent.Running, At: b.started},
	}
	status := agent.Status{
		Schema: 1, At: now, Every: 60,
		Health:  health.Report{Schema: 1, At: now, Live: true, Ready: true},
		Upgrade: upgrade.Status{Running: refOf(b.running)},
		Rollout: report,
	}
	if !b.before.IsZero() {
		status.Upgrade.Retained = []upgrade.Ref{refOf(b.before)}
	}
	if !b.alert.IsZero() {
		status.Health.Alerts = []health.Alert{{Name: "errors", Severity: health.Critical, Since: b.alert}}
	}
	return reg, status
}

func refOf(p release.Pin) upgrade.Ref { return upgrade.Ref{Version: p.Version, Manifest: p.Digest} }
