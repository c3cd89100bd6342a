package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/upgrade"
)

// The readiness conditions that the agent itself sets.
const (
	conditionRegistration = "registration"
	conditionDraining     = "draining"
	conditionPlugins      = "plugins"
)

// conditionStart is the condition of startup that the agent itself sets.
const conditionStart = "start"

var errStarting = errors.New("the program's Start has not returned yet")

// configFile is the last-known-good configuration in the state directory.
const configFile = "config.json"

// Run runs the agent until ctx ends (nil), a successor has taken over
// (ErrSuperseded) or something fails. It may be called once, returns with
// every goroutine joined, and on a cold start may replace this process by
// the current release. In a supervisor (see Config.Supervise) it returns when
// the agent has ended, with an *upgrade.ExitError if it failed.
func (a *Agent) Run(ctx context.Context) error {
	if a.ran.Swap(true) {
		return errors.New("agent: Run may be called once")
	}
	err := a.host.misused()
	if err == nil {
		err = a.run(ctx)
	}
	reason := "stopped as asked"
	if err != nil {
		reason = err.Error()
	}
	a.lifecycle.set(Terminated, reason)
	return err
}

func (a *Agent) run(ctx context.Context) (err error) {
	done, err := upgrade.Supervise(ctx, upgrade.SuperviseConfig{StateDir: a.cfg.StateDir, Mode: a.cfg.Supervise, Logger: a.log})
	if done || err != nil {
		return err
	}
	if err := a.upgrader.Open(ctx); err != nil {
		return err
	}
	defer func() {
		if errors.Is(err, ErrDuplicate) || errors.Is(err, ErrUnreachable) {
			a.upgrader.Excuse() // it would have been the same with any release
		}
		err = errors.Join(err, a.upgrader.Close())
	}()
	_, successor := a.upgrader.Inherited()
	a.service.begin(successor)
	if err := a.presence.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.presence.client.Close()) }()
	a.orders = newOrders(a)
	if err := a.admin.open(a.upgrader, successor); err != nil {
		return err
	}
	defer a.admin.end()

	r := a.background(ctx)
	err = r.up(ctx)
	if err == nil {
		select {
		case <-ctx.Done():
		case <-r.failed.Done():
		}
		err = context.Cause(r.failed)
	}
	return r.down(ctx, err)
}

// running is one Run: its contexts and its background work.
type running struct {
	*Agent
	failed context.Context // ends with the first failure as its cause
	fail   context.CancelCauseFunc
	// host ends when draining begins, life when it is over.
	host     context.Context
	stopHost context.CancelFunc
	life     context.Context
	stopLife context.CancelFunc
	tasks    sync.WaitGroup
	// upgraded is closed once the upgrader has ended; nil before it began.
	upgraded chan struct{}
}

func (a *Agent) background(ctx context.Context) *running {
	base := context.WithoutCancel(ctx)
	r := &running{Agent: a}
	r.failed, r.fail = context.WithCancelCause(base)
	r.host, r.stopHost = context.WithCancel(base)
	r.life, r.stopLife = context.WithCancel(base)
	a.host.begin(r.host, r.fail)
	return r
}

// start runs one part of the agent until ctx ends. Its failure before that
// ends the agent.
func (r *running) start(ctx context.Context, what string, f func(context.Context) error) {
	r.tasks.Go(func() {
		err := f(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, ErrSuperseded):
			r.fail(ErrSuperseded)
		default:
			r.fail(fmt.Errorf("%s: %w", what, err))
		}
	})
}

// up brings the agent to serving. A successor asks nobody: it takes the
// configuration from the disk and the lease from its incumbent.
func (r *running) up(ctx context.Context) error {
	r.lifecycle.set(Initializing, "starting")
	_, successor := r.upgrader.Inherited()
	r.start(r.life, "fingerprint", r.lookAround)
	r.start(r.life, "health", r.health.Run)
	r.start(r.life, "registration", r.presence.session.Run)
	if err := r.loadSettings(ctx, successor); err != nil {
		return err
	}
	if !successor {
		if err := r.presence.await(ctx, r); err != nil {
			return err
		}
	}
	if err := r.upgrader.Restore(ctx); err != nil {
		return err
	}
	if err := r.startHost(ctx); err != nil {
		return err
	}
	r.checkPlugins(successor)
	r.health.SetStartup(conditionStart, nil)
	r.admin.serve()
	if err := r.upgrader.Serving(); err != nil {
		return err
	}
	if !successor {
		r.service.ready(r.cfg.Version)
	}
	r.upgraded = make(chan struct{})
	r.start(r.host, "upgrades", func(ctx context.Context) error {
		defer close(r.upgraded)
		return r.upgrader.Run(ctx)
	})
	r.tasks.Go(r.takeCharge)
	return nil
}

// startHost calls the program's Start, whose ctx ends with the agent's stop or
// failure, too: it may be waiting for something.
func (r *running) startHost(ctx context.Context) error {
	stopped, failed := context.AfterFunc(ctx, r.stopHost), context.AfterFunc(r.failed, r.stopHost)
	defer stopped()
	defer failed()
	err := r.cfg.Start(r.host, r.Agent)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case r.failed.Err() != nil:
		return context.Cause(r.failed)
	case err != nil:
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

func (r *running) loadSettings(ctx context.Context, successor bool) error {
	s := r.cfg.Settings
	if s == nil {
		return nil
	}
	src := config.Source{
		Client: r.presence.client, Root: r.presence.registry.keys.root, AgentID: r.cfg.ID, Groups: r.cfg.Groups,
		File: filepath.Join(r.cfg.StateDir, configFile), PreferFile: successor,
		OnStatus: r.touchSoon, Overlay: r.following.settings.overlay,
		Sections: []config.Section{r.presence.section()},
	}
	r.following.settings.recall()
	// The file stays the incumbent's until a successor is in charge, and a
	// start that etcd refuses leaves none behind.
	if src.InCharge = r.presence.registered; successor {
		src.InCharge = r.upgrader.Active()
	}
	r.start(r.life, "configuration", func(ctx context.Context) error { return s.Run(ctx, src) })
	return r.await(ctx, s.Ready(), nil)
}

var errTimeout = errors.New("timed out")

// await waits for ready, a failure, the end of ctx or the timeout.
func (r *running) await(ctx context.Context, ready <-chan struct{}, timeout <-chan time.Time) error {
	select {
	case <-ready:
		return nil
	case <-r.failed.Done():
		return context.Cause(r.failed)
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout:
		return errTimeout
	}
}

// takeCharge begins, once this process is in charge of the host, what only
// one process may do.
func (r *running) takeCharge() {
	select {
	case <-r.upgrader.Active():
	case <-r.host.Done():
		return
	}
	reason := "serving"
	if last := r.upgrader.Status(); last.State.Terminal() {
		reason += "; last upgrade " + string(last.State)
	}
	r.lifecycle.set(Running, reason)
	r.tasks.Go(func() { r.service.guard(r.host, func() bool { return r.health.Report().Live }) })
	if _, successor := r.upgrader.Inherited(); successor {
		r.start(r.host, "registration", r.presence.inherit)
	}
	r.presence.takeBeat()
	r.start(r.life, "registration", r.presence.tend)
	r.start(r.life, "registration", r.presence.publish)
	r.start(r.life, "executable", r.measure)
	r.start(r.life, "configuration schema", func(ctx context.Context) error {
		return r.schema.publish(ctx, r.presence.client, r.presence.registry.keys.root, r.log)
	})
	r.start(r.host, "orders", r.orders.run)
	if !r.cfg.Rollout.Off {
		r.start(r.host, "rollouts", r.following.run)
	}
	r.tasking.begin(r)
	r.control(r)
	r.responder.begin(r)
	if r.plugins != nil {
		r.start(r.tasking.pluginsUntil(r), "plugins", r.plugins.Run)
	}
}

// down drains and ends everything, and says why Run returns.
func (r *running) down(ctx context.Context, cause error) error {
	superseded := errors.Is(cause, ErrSuperseded)
	switch {
	case superseded:
		r.giveWay()
	case cause != nil && ctx.Err() == nil:
		r.lifecycle.set(Terminating, cause.Error())
	default:
		cause = nil
		r.lifecycle.set(Terminating, "stop was asked for")
	}
	if superseded || errors.Is(cause, upgrade.ErrAborted) {
		r.health.HandOver()
	}
	r.health.Set(conditionDraining, errors.New(r.lifecycle.get().Reason))
	r.log.Info("draining", "reason", r.lifecycle.get().Reason)
	r.stopHost()
	interrupted := failpoint.Hit("drain")

	drain := r.cfg.Drain
	if !superseded && !errors.Is(cause, upgrade.ErrAborted) && drain.Idle <= 0 {
		// Nobody else serves these clients: waiting for them gains nothing.
		drain.Idle = time.Millisecond
	}
	bound := drain.WithDefaults().Timeout
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound+5*time.Second)
	defer cancel()
	if !superseded && r.inCharge() {
		defer r.service.stopping(context.WithoutCancel(ctx), r.lifecycle.get().Reason)()
	}
	drained := r.drain(limit, drain, cause)
	if errors.Is(drained, upgrade.ErrCutOff) {
		// The deadline was kept, which is what was asked for: clients that
		// would not go do not make this end a failure.
		r.log.Warn("the drain's deadline passed", "error", drained)
		drained = nil
	}
	errs := []error{cause, interrupted, drained}
	if late := r.afterUpgrades(superseded); late != nil {
		superseded, errs = true, append(errs, late)
	}
	rest, cancelRest := context.WithTimeout(context.WithoutCancel(ctx), bound)
	defer cancelRest()
	if r.cfg.Stop != nil {
		errs = append(errs, r.cfg.Stop(rest))
	}
	if !superseded && r.inCharge() {
		r.lastWords(rest)
	}
	r.stopLife()
	r.fail(nil)
	r.tasks.Wait()
	if !superseded && r.inCharge() {
		revoke, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := r.presence.session.Revoke(revoke); err != nil {
			r.log.Warn("registration not taken back; it ends with its lease", "error", err)
		}
	}
	r.log.Info("drained")
	return errors.Join(append(errs, failpoint.Hit("drained"))...)
}

// giveWay leaves to a successor what is its now.
func (r *running) giveWay() {
	r.admin.leave(r.cfg.Drain)
	r.lifecycle.set(Terminating, "a successor has taken over")
	r.service.superseded(r.upgrader.Successor(), r.upgrader.Status().To.Version)
	if r.plugins != nil {
		r.plugins.Detach() // they go on under the successor
	}
}

// afterUpgrades waits until an upgrade in progress has been settled: its hooks
// need what Stop closes, and its end is to be told. It returns ErrSuperseded
// where a successor took over while this process was told to stop; what was
// asked of the agent is that one's to do now.
func (r *running) afterUpgrades(known bool) error {
	if r.upgraded == nil {
		return nil
	}
	<-r.upgraded
	pid := r.upgrader.Successor()
	if pid == 0 || known {
		return nil
	}
	if !upgrade.Supervised() { // a supervisor tells it
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Signal(syscall.SIGTERM)
		}
	}
	return ErrSuperseded
}

// lastWords has the end of an interrupted upgrade told before the registration
// is taken back: somebody may be following it.
func (r *running) lastWords(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := r.presence.flush(ctx, false); err != nil {
		r.log.Warn("last status not published", "error", err)
	}
}
