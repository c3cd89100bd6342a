package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/upgrade"
)

// ErrUnreachable is wrapped where an agent that was never registered before
// does not reach etcd at its first start, or is refused by it.
var ErrUnreachable = errors.New("etcd is not reachable")

// errNotInCharge keeps the keys where they are.
var errNotInCharge = errors.New("the registration is another process's to move")

// lockFile in the state directory is what package upgrade locks.
const lockFile = "lock"

// presence is an agent's place in etcd: the lease, the registration and what
// else hangs on it, who may write them, and whether what is seen there is up
// to date. Of the two processes of an upgrade the incumbent is present; the
// successor renews the same lease and writes nothing until it has committed.
type presence struct {
	*Agent
	client   *clientv3.Client
	session  *etcdkv.Session
	registry *registry

	registered chan struct{} // closed after the first registration
	enroll     sync.Once
	failure    atomic.Pointer[error] // why the registration is not there; nil = it is, or was not tried

	watch atomic.Pointer[etcdkv.Watch] // of the agent's own keys; nil before
	hurt  atomic.Pointer[[]string]     // keys that are not as they were written
	mend  chan struct{}                // tells of hurt

	silence silence

	mu       sync.Mutex
	wanted   heartbeat // of the fleet; zero values are this program's
	restored restored
}

func newPresence(a *Agent) *presence {
	return &presence{Agent: a, registered: make(chan struct{}), mend: make(chan struct{}, 1)}
}

// describe adds to r what the presence knows, once it is open.
func (p *presence) describe(r *Registration) {
	if p.registry == nil {
		return
	}
	r.Instance, r.Home = p.registry.instance.ID, p.registry.home
	if p.session != nil {
		_, every := p.session.Timing()
		r.HeartbeatEvery = every.Seconds()
	}
}

// open builds what talks to etcd. Nothing is sent yet.
func (p *presence) open() error {
	inst, err := openInstance(p.cfg.StateDir)
	if err != nil {
		return err
	}
	if p.client, err = p.cfg.Etcd.dial(p.metrics.etcd, p.log); err != nil {
		return err
	}
	p.registry = &registry{
		client: p.client, keys: newKeys(p.cfg.Etcd.Root), id: p.cfg.ID, instance: inst,
		home: home(filepath.Join(p.cfg.StateDir, lockFile)),
	}
	lease, _ := p.upgrader.Inherited()
	p.session, err = etcdkv.NewSession(etcdkv.SessionConfig{
		Client: p.client, TTL: p.cfg.TTL, Interval: p.cfg.HeartbeatEvery, Lease: lease,
		OnLease: p.leased, OnBeat: p.beat, Logger: p.log,
	})
	if err == nil {
		err = p.metrics.leases(p.session)
	}
	if err != nil {
		return errors.Join(err, p.client.Close())
	}
	if lease != 0 {
		// The agent is registered, by its incumbent: probes that reach this
		// process during the swap are not to be told otherwise.
		p.health.Set(conditionRegistration, nil)
	}
	return nil
}

// leased registers under a new lease, or has a successor on probation, whose
// registration is its incumbent's until commit, do nothing.
func (p *presence) leased(ctx context.Context, lease int64) error {
	switch {
	case !p.inCharge() || p.upgrader.Successor() != 0:
	case p.yields():
		return errNotInCharge // perhaps; called again, it will be known
	default:
		return p.enlisted(p.registry.register(ctx, lease, p.Info()))
	}
	if lease != p.session.Lease() {
		// It is to replace the one that is held, on which the keys are.
		p.session.Settle()
		return errNotInCharge
	}
	p.health.Set(conditionRegistration, nil)
	return nil
}

// enlist registers again where the registration hangs.
func (p *presence) enlist(ctx context.Context) error {
	return p.enlisted(p.registry.again(ctx, p.session.Lease(), p.Info()))
}

// enlisted tells what came of registering.
func (p *presence) enlisted(err error) error {
	if err != nil {
		p.failure.Store(&err)
		p.health.Set(conditionRegistration, err)
		return err
	}
	p.failure.Store(nil)
	p.health.Set(conditionRegistration, nil)
	p.enroll.Do(func() { close(p.registered) })
	p.schema.registered()
	p.tasking.changed()
	p.following.look()
	p.touchSoon()
	return nil
}

// await lets an agent that etcd knows start without it.
func (p *presence) await(ctx context.Context, r *running) error {
	t := time.NewTimer(p.cfg.ConnectTimeout)
	defer t.Stop()
	for {
		err := r.await(ctx, p.registered, t.C)
		if !errors.Is(err, errTimeout) {
			return err
		}
		if !p.registry.contested.Load() {
			break
		}
		t.Reset(p.cfg.ConnectTimeout) // etcd answers: it is the id that is in question
	}
	why := p.absence()
	if p.registry.instance.everRegistered() {
		p.log.Warn("starting without etcd", "error", why)
		if p.failure.Load() == nil {
			p.silence.begin(time.Now())
		}
		p.health.Set(conditionRegistration, fmt.Errorf("not registered: %w", why))
		return nil
	}
	return unregistered{fmt.Errorf("%w; this agent has never been registered, so that it cannot start without", why)}
}

// absence tells why there is no registration after Config.ConnectTimeout.
func (p *presence) absence() error {
	if failure := p.failure.Load(); failure != nil {
		return fmt.Errorf("etcd has not taken the registration within %v: %w", p.cfg.ConnectTimeout, *failure)
	}
	_, _, cause := p.session.LastBeat()
	if cause == nil { // the first attempt still waits for a connection
		if cause = etcdkv.LastFailure(p.client); cause == nil {
			cause = errors.New("no connection yet")
		}
	}
	return fmt.Errorf("etcd at %s did not answer within %v (%w): start etcd or correct the endpoints",
		strings.Join(p.cfg.Etcd.Endpoints, ","), p.cfg.ConnectTimeout, cause)
}

// unregistered is ErrUnreachable with a text that says what happened.
type unregistered struct{ error }

func (u unregistered) Unwrap() []error { return []error{u.error, ErrUnreachable} }

// inherit writes the registration of a successor under the lease that it took
// over. If that lease is gone, the session registers itself.
func (p *presence) inherit(ctx context.Context) error {
	if err := failpoint.Hit("inherit-registration"); err != nil {
		return err
	}
	retry := backoff.Backoff{Max: 5 * time.Second}
	for ctx.Err() == nil {
		err := p.enlist(ctx)
		if err == nil || errors.Is(err, ErrDuplicate) {
			return err
		}
		p.log.Warn("registration not taken over yet", "error", err)
		p.session.Renew()   // which finds out whether the lease is gone
		_ = retry.Wait(ctx) // the loop sees ctx's end
	}
	return nil
}

// fenced is called when somebody else wrote the registration. A successor
// that has just committed may do so; then this process is told to end soon.
// Any other writer is met by registering again, which tells who it is.
func (p *presence) fenced(ctx context.Context) error {
	if p.yields() {
		_ = backoff.Sleep(ctx, time.Second) // its end is the caller's to see
		return nil
	}
	if p.session.Lease() == 0 {
		return nil // the session registers
	}
	switch err := p.enlist(ctx); {
	case err == nil:
		p.noteRestored([]string{p.registry.keys.registry(p.cfg.ID)})
	case errors.Is(err, ErrDuplicate):
		return err
	default:
		p.log.Warn("registration not written again yet", "error", err)
		p.session.Renew()
		_ = backoff.Sleep(ctx, time.Second) // the caller sees ctx's end
		p.touchSoon()
	}
	return nil
}

// yields reports whether a successor has the registration, or is about to.
func (p *presence) yields() bool {
	if p.upgrader.Successor() != 0 {
		return true
	}
	s := p.upgrader.Status()
	return s.State == upgrade.Committing && s.To.Version != p.cfg.Version
}

// flush writes what is to be seen, once there is a registration to hang it
// on, and then takes away the order that the status has answered. It reports
// whether the status was written, which it is if it has changed, or at its beat.
func (p *presence) flush(ctx context.Context, beat bool) (told bool, err error) {
	if p.registry.leased() == 0 {
		return false, nil // the session registers first and calls touchSoon
	}
	if p.upgrader.Successor() != 0 {
		return false, nil // what is to be seen is that one's: here plugins stop that go on there
	}
	reg, status, plugins := p.Info(), p.status(), p.pluginRecords()
	tree := treeOf(reg, status, plugins)
	status.Tree = &tree
	if told, err = p.registry.write(ctx, reg, status, plugins, beat); err != nil {
		return false, err
	}
	if told { // compared with the registration, which is therefore there
		p.failure.Store(nil)
	}
	return told, p.orders.acknowledge(ctx, status.Upgrade)
}

// inCharge reports whether the registration is this process's to write, and
// the lease its to end.
func (a *Agent) inCharge() bool {
	select {
	case <-a.upgrader.Active():
		return true
	default:
		_, successor := a.upgrader.Inherited()
		return !successor
	}
}
