package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// FollowerConfig describes an agent that follows its fleet's plan. Client, Self,
// Host and Renewed are required.
type FollowerConfig struct {
	// Client is used, never closed.
	Client *clientv3.Client
	// Root is the prefix of all keys; default "/agents/".
	Root string
	// Fleet is whose plan is followed; default DefaultFleet.
	Fleet string
	// Self is the agent as it stands in the registry. ID, Labels, Groups, Host
	// and Platform do not change; Joined is 0 while it is not registered. It is
	// called often and must not block.
	Self func() Member
	// Host does what the plan asks for.
	Host Host
	// Renewed tells how long ago the last renewal of the registration was sent that
	// was answered, and whether it stands for certain: whether that is less than its
	// lease lasts. Nothing is started while it does not: whoever moves the marks may
	// think that the agent is gone. It must not block.
	Renewed func() (ago time.Duration, stands bool)
	// Alarms names the alerts that fire and the checks that fail, the worst first:
	// those that do before a change are not the change's doing. It must not block.
	// May be nil.
	Alarms func() []string
	// State is the path of the file that keeps the report through swaps and
	// restarts, in a directory that exists; "" keeps nothing.
	State string
	// OnReport is called after Report or Trouble has changed; it must not block.
	// May be nil.
	OnReport func()
	// Logger receives what the agent follows; nil discards it.
	Logger *slog.Logger
}

// Follower is the agent's side of rollouts: it follows the plan of its fleet and
// has its Host start what the plan asks for, once the plan admits the agent.
//
// It starts on the plan's change alone, without a read or a write of etcd, and
// starts nothing while the agent's registration may have ended, so that it is
// never down without being counted: where somebody may have revoked that
// meanwhile, as the plan says, it reads it before. What an agent has reported the
// end of it does not begin again, whatever has become of the reason: whoever moves
// the marks does not count it any more. The next instruction, or an order to this
// one host, does.
type Follower struct {
	cfg     FollowerConfig
	keys    keys
	started atomic.Bool
	touched chan struct{}
	lookUp  func(key string) // has the registration read, for sight

	taking   sync.Mutex
	again    *time.Timer // rings when it is to be looked again
	followee             // guarded by taking

	mu      sync.Mutex
	report  *Report
	within  time.Duration // see ReportWithin
	trouble error
}

// planView is what etcd holds of a fleet for its agents; nil = nothing.
type planView struct {
	plan, freeze []byte
	mod          int64 // revision of the plan
}

// NewFollower checks cfg and starts nothing.
func NewFollower(cfg FollowerConfig) (*Follower, error) {
	switch {
	case cfg.Client == nil:
		return nil, errors.New("rollout: FollowerConfig.Client is nil")
	case cfg.Self == nil || cfg.Host == nil || cfg.Renewed == nil:
		return nil, errors.New("rollout: FollowerConfig.Self, Host and Renewed are required")
	}
	k, err := newKeys(cfg.Root, cfg.Fleet)
	if err != nil {
		return nil, fmt.Errorf("rollout: %w", err)
	}
	if cfg.OnReport == nil {
		cfg.OnReport = func() {}
	}
	if cfg.Alarms == nil {
		cfg.Alarms = func() []string { return nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Follower{
		cfg: cfg, keys: k,
		touched: make(chan struct{}, 1),
	}, nil
}

// Run follows the plan until ctx ends, whose error it then returns. It goes on
// through outages, can be called once, and joins what it starts.
func (f *Follower) Run(ctx context.Context) error {
	if f.started.Swap(true) {
		return errors.New("rollout: Follower.Run called twice")
	}
	f.recall()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	f.again = time.NewTimer(0)
	defer f.again.Stop()
	planKey, freezeKey := f.keys.plan(), f.keys.freeze()
	watch, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: f.cfg.Client, Keys: []string{planKey, freezeKey},
		// A mark that moves is acted on at once, by the goroutine that hears of it;
		// two moves are far apart.
		Coalesce: -1,
		OnChange: func(v etcdkv.View) {
			plan := v.Values[planKey]
			f.take(ctx, func() { f.hear(planView{plan.Data, v.Values[freezeKey].Data, plan.ModRevision}) })
		},
		OnError: func(err error) {
			f.take(ctx, func() {
				f.deaf = err
				f.tellTrouble()
			})
		},
		Logger: f.cfg.Logger,
	})
	if err != nil {
		return err
	}
	f.lookUp = func(key string) {
		wg.Go(func() {
			s := look(ctx, f.cfg.Client, key)
			f.take(ctx, func() { f.sight(s) })
		})
	}
	wg.Go(func() { _ = watch.Run(ctx) }) // ends with ctx only
	return f.follow(ctx)
}

// take takes over what is news, and does what there is to do.
// Once ctx has ended nothing is begun any more.
func (f *Follower) take(ctx context.Context, news func()) {
	f.taking.Lock()
	defer f.taking.Unlock()
	if ctx.Err() != nil {
		return
	}
	news()
	f.again.Stop()
	if wait := f.look(time.Now()); wait > 0 {
		f.again.Reset(wait)
	}
}

// follow looks again when it is touched, and when it is time to, until ctx ends.
func (f *Follower) follow(ctx context.Context) error {
	for {
		select {
		case <-f.touched:
		case <-f.again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		f.take(ctx, func() {})
	}
}

// Touch has the Follower look at its Host, Self and Renewed again. It does not
// block and may be called concurrently, also before Run.
func (f *Follower) Touch() {
	select {
	case f.touched <- struct{}{}:
	default:
	}
}

// Report is what the agent says about the instruction that it follows, or was
// the last to follow; nil = about none. It may be called concurrently; the
// report does not change.
func (f *Follower) Report() *Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.report
}

// ReportWithin is over how long those who were let in together spread the word that
// they have begun, so that etcd has it from no more than a thousand in a second: a
// millisecond for each of them, at most 10 s. Whoever moves the marks counts them in any
// case. It is 0 of all other reports. It may be called concurrently.
func (f *Follower) ReportWithin() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.within
}

// Trouble is why the plan in etcd, or the brake, cannot be followed, or why the
// report is not kept; nil if all is well. It may be called concurrently.
func (f *Follower) Trouble() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trouble
}
