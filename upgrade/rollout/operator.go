package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/upgrade/release"
)

// Errors of an Operator.
var (
	// ErrNoPlan: the fleet has no rollout.
	ErrNoPlan = errors.New("the fleet has no rollout")
	// ErrUnderWay: another rollout has not ended; see StartOptions.Replace.
	ErrUnderWay = errors.New("another rollout is under way")
	// ErrState: it cannot be done in the state that the rollout is in.
	ErrState = errors.New("the rollout is not in a state for it")
	// ErrPlan: the plan that is there cannot be read; see StartOptions.Replace.
	ErrPlan = errors.New("the plan cannot be read")
	// ErrHistory: records are missing, or were changed, or one lies where the next is to
	// be, which keeps the plan from being written.
	ErrHistory = errors.New("the history is not whole")
)

// actFor bounds what an Operator does, with all its retries.
const actFor = 30 * time.Second

// OperatorConfig says which fleet is operated.
type OperatorConfig struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// Root is the prefix of all keys; default /agents/.
	Root string
	// Fleet is the fleet's name; default DefaultFleet.
	Fleet string
	// CheckDocument refuses a configuration document that agents could not read;
	// nil = any is taken.
	CheckDocument func(document []byte) error
}

// Operator starts, steers and shows the rollouts of one fleet: what people do.
// What it does is recorded in the history with who did it. Its methods may be
// called concurrently, and by any number of Operators: each acts on what it has
// read, and again if that has changed meanwhile. They wait up to 30 s for etcd,
// unless their ctx ends before. With an error that is none of the above, such as
// a timeout, it may have been done all the same.
type Operator struct {
	store
	checkDocument func([]byte) error
}

// NewOperator checks cfg and connects to nothing.
func NewOperator(cfg OperatorConfig) (*Operator, error) {
	if cfg.Client == nil {
		return nil, errors.New("operator of rollouts: OperatorConfig.Client is nil")
	}
	k, err := newKeys(cfg.Root, cfg.Fleet)
	if err != nil {
		return nil, fmt.Errorf("operator of rollouts: %w", err)
	}
	if cfg.CheckDocument == nil {
		cfg.CheckDocument = func([]byte) error { return nil }
	}
	return &Operator{store{cfg.Client, k}, cfg.CheckDocument}, nil
}

// Act says who does something, and why: for the history, at most 256 and 512
// bytes.
type Act struct {
	By, Reason string
}

// Pause has no more agents admitted; those under way go on.
func (o *Operator) Pause(ctx context.Context, a Act) (Plan, error) {
	return o.steer(ctx, a, EventPaused, a.Reason, Plan.pause)
}

// Resume goes on with what is paused or halted.
func (o *Operator) Resume(ctx context.Context, a Act) (Plan, error) {
	return o.steer(ctx, a, EventResumed, a.Reason, Plan.resume)
}

// PromoteOptions say what is promoted.
type PromoteOptions struct {
	Act
	// Failed goes on with a rollout that was halted, and takes the stage that has
	// failed as it is.
	Failed bool
}

// Promote opens the gate of the stage that waits for it, or takes the one that is
// under way as it is. A rollout that was halted is refused unless opts.Failed.
func (o *Operator) Promote(ctx context.Context, opts PromoteOptions) (Plan, error) {
	return o.steer(ctx, opts.Act, EventPromoted, opts.told(), func(p Plan, a Act, at time.Time) (Plan, error) {
		return p.promote(a, opts.Failed, at)
	})
}

// Abort ends the rollout: who has changed stays so, and nobody else is admitted.
func (o *Operator) Abort(ctx context.Context, a Act) (Plan, error) {
	return o.steer(ctx, a, EventAborted, a.Reason, Plan.abort)
}

// RevertOptions say how a rollout is reverted.
type RevertOptions struct {
	Act
	// To is what agents are to run in place of the plan's Previous; zero = that.
	// It is another release than the one that they are to leave.
	To release.Pin
	// PastSilent sets Plan.PastSilent. A revert that is under way, or was halted,
	// then goes on with it.
	PastSilent bool
}

// Revert brings agents back, also those of a rollout that has completed. Windows
// and gates do not hold it up. Follow it with Watch until its State is Reverted.
func (o *Operator) Revert(ctx context.Context, opts RevertOptions) (Plan, error) {
	return o.steer(ctx, opts.Act, EventReverting, opts.told(), func(p Plan, a Act, at time.Time) (Plan, error) {
		return p.back(a, opts, at)
	})
}

// steer writes what change makes of the plan, and why in the record.
func (o *Operator) steer(ctx context.Context, a Act, event Event, why string, change func(Plan, Act, time.Time) (Plan, error)) (Plan, error) {
	if err := a.check(); err != nil {
		return Plan{}, err
	}
	return o.change(ctx, func(s standing, at time.Time) (draft, error) {
		switch {
		case s.plan.err != nil:
			return draft{}, s.plan.err
		case s.plan.value == nil:
			return draft{}, fmt.Errorf("fleet %s: %w", o.keys.fleet, ErrNoPlan)
		}
		next, err := change(*s.plan.value, a, at)
		r := a.record(event, s, at)
		r.Why = why
		return draft{before: *s.plan.value, plan: next, record: r}, err
	})
}

// record is of what a does, with the figures that there were.
func (a Act) record(event Event, s standing, at time.Time) Record {
	r := Record{At: at, By: a.By, Event: event, Why: a.Reason}
	if b := s.view().Books; b != nil {
		r.Figures = b.Figures
	}
	return r
}

// change writes what make makes of what is there, and again while others are
// faster. A write that was not answered is looked for before it is made again.
func (o *Operator) change(ctx context.Context, next func(standing, time.Time) (draft, error)) (Plan, error) {
	var tried written
	err := o.insist(ctx, func(ctx context.Context) (bool, error) {
		s, err := o.now(ctx)
		if err != nil {
			return false, err
		}
		if tried.plan.History != "" {
			if done, err := o.holds(ctx, tried); done || err != nil {
				return done, err
			}
		}
		d, err := next(s, time.Now())
		if err != nil {
			return false, err // what it reads may do better, too
		}
		d.over = s.plan.mod
		if tried, err = o.keys.seal(d); err != nil {
			return true, err
		}
		_, done, _, err := o.commit(ctx, tried.when, tried.then)
		if err == nil && !done {
			err = o.stray(ctx, tried, d.over)
		}
		return done, err
	})
	return tried.plan, err
}

// holds reports whether the record of w is in etcd: it was written, whatever
// followed it.
func (o *Operator) holds(ctx context.Context, w written) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := o.client.Get(ctx, o.keys.record(w.record.Rollout, w.record.Seq))
	if err != nil {
		return false, o.failed("read the history", err)
	}
	return len(r.Kvs) == 1 && digestOf(r.Kvs[0].Value) == w.plan.History, nil
}

// insist calls try until it is done, while what fails may do better a little
// later.
func (o *Operator) insist(ctx context.Context, try func(context.Context) (done bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, actFor)
	defer cancel()
	retry := backoff.Backoff{Min: 20 * time.Millisecond, Max: 2 * time.Second}
	var last error
	for {
		done, err := try(ctx)
		if done || err != nil && ctx.Err() == nil && !etcdkv.Unavailable(err) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if err != nil {
			last = err
		}
		if err := retry.Wait(ctx); err != nil {
			return errors.Join(err, last)
		}
	}
}

// View is a fleet's rollout at one moment.
type View struct {
	// Revision is that of etcd.
	Revision int64
	// Plan is nil while the fleet has none.
	Plan *Plan
	// Books are the newest of this plan; nil until a controller has written them.
	Books *Books
	// Freeze is nil while the fleet is not frozen.
	Freeze *Freeze
	// Leader is the controller that is elected; nil = none is.
	Leader *Leader
	// Trouble is what keeps the controller from moving the rollout on, as it says
	// itself, and what else than the plan cannot be read; "" = nothing.
	Trouble string
}

// Leader is the value of rollout/<fleet>/leader: the controller that is elected.
type Leader struct {
	Schema int       `json:"schema"`
	ID     string    `json:"id"`
	Since  time.Time `json:"since"`
	// Trouble is what keeps it from moving the rollout on, for a few seconds at
	// least; at most 1 KiB.
	Trouble string `json:"trouble,omitempty"`
}

// Status reads the rollout as it is. Its error wraps ErrPlan
// where the plan cannot be read; the rest of the View is as it is all the same.
func (o *Operator) Status(ctx context.Context) (View, error) {
	var v View
	err := o.insist(ctx, func(ctx context.Context) (bool, error) {
		s, err := o.now(ctx)
		if err != nil {
			return false, err
		}
		v = s.view()
		return true, s.plan.err
	})
	return v, err
}

// Watch calls changed with the rollout as it is and then after each change, never
// concurrently, until ctx ends, whose error it returns. It outlasts outages of
// etcd. A plan that cannot be read ends it.
func (o *Operator) Watch(ctx context.Context, changed func(View)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: o.client, Keys: o.keys.watched(), Coalesce: -1,
		OnChange: func(v etcdkv.View) {
			s := o.keys.stands(v.Revision, v.Values)
			if s.plan.err != nil {
				cancel(s.plan.err)
				return
			}
			changed(s.view())
		},
	})
	if err != nil {
		return err
	}
	_ = w.Run(ctx) // its error is ctx's
	return context.Cause(ctx)
}
