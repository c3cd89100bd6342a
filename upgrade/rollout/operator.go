package rollout

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

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
	// ErrHistory: records are missing, or were changed.
	ErrHistory = errors.New("the history is not whole")
)

// OperatorConfig says which fleet is operated.
type OperatorConfig struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// Root is the prefix of all keys; default /agents/.
	Root string
	// Fleet is the fleet's name; default DefaultFleet.
	Fleet string
}

// Operator starts, steers and shows the rollouts of one fleet: what people do.
// What it does is recorded in the history with who did it. Its methods may be
// called concurrently, and by any number of Operators: each acts on what it has
// read, and again if that has changed meanwhile. With an error that is none of
// the above, such as a timeout, it may have been done all the same.
type Operator struct {
	client *clientv3.Client
	keys   keys
}

// NewOperator checks cfg and connects to nothing.
func NewOperator(cfg OperatorConfig) (*Operator, error) { return nil, errors.New("not yet") }

// Act says who does something, and why: for the history, at most 256 and 512
// bytes.
type Act struct {
	By, Reason string
}

// StartOptions say how a rollout starts.
type StartOptions struct {
	// Replace ends another rollout that is under way: its agents stay as they are
	// until the new one admits them.
	Replace bool
	// Document is that of Plan.Target.Config, whose Digest is filled in; Previous
	// that of Plan.Previous.Config, if it is not the scope's own.
	Document, Previous []byte
}

// Start begins the rollout p, whose By and Reason say who asks and why, and
// returns it as it was written: with its defaults, and with an ID where it had
// none. The error wraps ErrUnderWay if there is another that has not ended.
func (o *Operator) Start(ctx context.Context, p Plan, opts StartOptions) (Plan, error) {
	return Plan{}, errors.New("not yet")
}

// Pause has no more agents admitted; those under way go on.
func (o *Operator) Pause(ctx context.Context, a Act) (Plan, error) {
	return Plan{}, errors.New("not yet")
}

// Resume goes on with what is paused or halted.
func (o *Operator) Resume(ctx context.Context, a Act) (Plan, error) {
	return Plan{}, errors.New("not yet")
}

// Promote opens the gate of the stage that waits for it.
func (o *Operator) Promote(ctx context.Context, a Act) (Plan, error) {
	return Plan{}, errors.New("not yet")
}

// Abort ends the rollout: who has changed stays so, and nobody else is admitted.
func (o *Operator) Abort(ctx context.Context, a Act) (Plan, error) {
	return Plan{}, errors.New("not yet")
}

// RevertOptions say how a rollout is reverted.
type RevertOptions struct {
	Act
	// To is what agents are to run in place of the plan's Previous; zero = that.
	To release.Pin
}

// Revert brings agents back, also those of a rollout that has completed. Windows
// and gates do not hold it up. Follow it with Watch until its State is Reverted.
func (o *Operator) Revert(ctx context.Context, opts RevertOptions) (Plan, error) {
	return Plan{}, errors.New("not yet")
}

// Freeze pulls the fleet's brake: no agent starts what a plan brings until
// Unfreeze. With reverts those are held up as well.
func (o *Operator) Freeze(ctx context.Context, a Act, reverts bool) error {
	return errors.New("not yet")
}

// Unfreeze releases the brake; it is no error if it was not pulled.
func (o *Operator) Unfreeze(ctx context.Context, a Act) error { return errors.New("not yet") }

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
}

// Leader is the value of rollout/<fleet>/leader: the controller that is elected.
type Leader struct {
	Schema int       `json:"schema"`
	ID     string    `json:"id"`
	Since  time.Time `json:"since"`
}

// Status reads the rollout as it is.
func (o *Operator) Status(ctx context.Context) (View, error) {
	return View{}, errors.New("not yet")
}

// Watch calls changed with the rollout as it is and then after each change, never
// concurrently, until ctx ends, whose error it returns. It outlasts outages of
// etcd. A value that cannot be read ends it.
func (o *Operator) Watch(ctx context.Context, changed func(View)) error {
	return errors.New("not yet")
}

// HistoryOptions say what of the history to read. The zero value reads all.
type HistoryOptions struct {
	// Rollout is the ID of the only rollout to read; "" = all, the newest first.
	Rollout string
	// Limit is the most rollouts; 0 = all that are kept, which are 20.
	Limit int
}

// Past is the history of one rollout.
type Past struct {
	Rollout string   `json:"rollout"`
	Records []Record `json:"records"`
	// Broken says what is wrong with the chain of its records, the first only;
	// "" = nothing.
	Broken string `json:"broken,omitempty"`
}

// History reads rollouts, the newest first, and their records, the first first,
// and checks that none is missing and none was changed. If so, the error wraps
// ErrHistory, and what could be read is returned all the same.
func (o *Operator) History(ctx context.Context, opts HistoryOptions) ([]Past, error) {
	return nil, errors.New("not yet")
}
