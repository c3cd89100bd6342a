package agent

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// followFile in the state directory keeps what was reported of rollouts.
const followFile = "rollout.json"

// following is this agent's part in the rollouts of its fleet. It begins once
// this process is in charge of the host.
type following struct {
	*Agent
	follower atomic.Pointer[rollout.Follower] // nil before
	told     atomic.Pointer[rollout.Report]   // the report that was published last
	self     rollout.Member                   // but for Joined
	releases releaseHost
	settings *configHost
}

func newFollowing(a *Agent) *following {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &following{
		Agent:    a,
		releases: releaseHost{Agent: a}, settings: newConfigHost(a),
		self: rollout.Member{
			ID: a.cfg.ID, Labels: a.cfg.Labels, Groups: a.cfg.Groups,
			Host: host, Platform: runtime.GOOS + "/" + runtime.GOARCH,
		},
	}
}

// run follows the fleet's plan until ctx ends.
func (f *following) run(ctx context.Context) error {
	follower, err := rollout.NewFollower(rollout.FollowerConfig{
		Client: f.presence.client, Root: f.presence.registry.keys.root, Fleet: f.cfg.Rollout.Fleet,
		Self: f.member, Renewed: f.renewed, Host: f,
		State:    filepath.Join(f.cfg.StateDir, followFile),
		Alarms:   func() []string { return alarmNames(f.health.Report()) },
		OnReport: f.reported, Logger: f.log,
	})
	if err != nil {
		return err
	}
	f.settings.begun(ctx)
	defer f.settings.tasks.Wait()
	f.follower.Store(follower)
	return follower.Run(ctx)
}

// look tells the follower that something is different now; before there is one
// there is nothing to tell.
func (f *following) look() {
	if follower := f.follower.Load(); follower != nil {
		follower.Touch()
	}
}

// member is admitted to nothing once a successor is the agent: what this process
// still heard of plans would go into the file that is the successor's.
func (f *following) member() rollout.Member {
	m := f.self
	if f.upgrader.Successor() == 0 {
		m.Joined = f.presence.registry.member.since()
	}
	return m
}

// renewed: it stands while the lease lives, the registration hangs on it, and both
// are this process's.
func (f *following) renewed() (ago time.Duration, stands bool) {
	p := f.presence
	ago, stands = p.session.Renewed()
	return ago, stands && p.upgrader.Successor() == 0 && p.registry.leased() == p.session.Lease()
}

// reported has the report published. A start, and its end, which somebody waits
// for, does not wait for its turn: no more agents are under way than may be. But
// where many start at once they spread the word of it. What needs no start, all
// agents of a fleet may find at once.
func (f *following) reported() {
	follower := f.follower.Load()
	now, within := follower.Report(), follower.ReportWithin()
	before := f.told.Swap(now)
	switch {
	case now == nil || now.State != rollout.ReportStarted && (before == nil || before.State != rollout.ReportStarted):
		f.touchSoon()
	case within > 0:
		time.AfterFunc(spread(within), f.touch)
	default:
		f.touch()
	}
}

// describe adds to s what the agent says of rollouts.
func (f *following) describe(s *Status) {
	follower := f.follower.Load()
	if follower == nil {
		return
	}
	s.Rollout = follower.Report()
	if err := follower.Trouble(); err != nil {
		s.RolloutError = err.Error()
	}
}

// Begin implements rollout.Host.
func (f *following) Begin(o rollout.Order) {
	if o.Target.Config != nil {
		f.settings.begin(o)
		return
	}
	f.releases.begin(o)
}

// Retract implements rollout.Host.
func (f *following) Retract(request string) {
	f.settings.retract(request)
	f.releases.retract(request)
}

// Standing implements rollout.Host.
func (f *following) Standing(o rollout.Order) rollout.Standing {
	var s rollout.Standing
	if o.Target.Config != nil {
		f.settings.tidy()
		s = f.settings.standing(o)
	} else {
		s = f.releases.standing(o)
	}
	if hold := f.upgrader.Status().Hold; hold != nil {
		s.Held = heldBy(hold)
	}
	return s
}

// Settle implements rollout.Host.
func (f *following) Settle(id string) { f.settings.settle(id) }
