package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/upgrade/release"
)

// Action is what a Request asks for.
type Action string

// The actions. Upgrade, stage, rollback and revert are attempts, which the
// journal follows; the others change what the host remembers and are answered
// in Status.Answer.
const (
	// ActionUpgrade asks for the release that Pin names; the default.
	ActionUpgrade Action = "upgrade"
	// ActionRollback asks for a retained release, without network and
	// whether or not its manifest or the index has expired. Pin names it by
	// version, and by digest where that is set; a zero Pin is the release
	// that ran before this one.
	ActionRollback Action = "rollback"
	// ActionStage asks for the release that Pin names to be there, verified, and
	// not to be started. It ends as Committed. An upgrade to it then needs no
	// network as long as it is kept; see Request.Retain. One staged release is
	// kept at a time, the newest.
	ActionStage Action = "stage"
	// ActionRevert asks to be rid of the release that Request.Leave names. Where
	// that waits, is downloaded or is on probation, it is given up, warm and
	// without blame. Where it runs, it is a rollback to what Pin names, a zero Pin
	// being the release that ran before. On any other host there is nothing to
	// do, and it ends as Committed.
	ActionRevert Action = "revert"
	// ActionHold keeps the host out of upgrades and rollbacks from now on.
	ActionHold Action = "hold"
	// ActionUnhold ends that.
	ActionUnhold Action = "unhold"
	// ActionClear takes the release that Pin names out of quarantine, by
	// version, and by digest where that is set; a zero Pin all of them.
	ActionClear Action = "clear-quarantine"
)

// Valid reports whether a is an action this library knows.
func (a Action) Valid() bool {
	switch a {
	case ActionUpgrade, ActionRollback, ActionStage, ActionRevert, ActionHold, ActionUnhold, ActionClear:
		return true
	default:
		return false
	}
}

// attempt reports whether a changes what runs.
func (a Action) attempt() bool {
	return a == ActionUpgrade || a == ActionStage || a.back()
}

// back reports whether a leads to what ran before.
func (a Action) back() bool { return a == ActionRollback || a == ActionRevert }

// Request asks a host for something.
type Request struct {
	// ID tells this request from others; it comes back in Status.
	ID string `json:"id"`
	// By is who asks, for the record.
	By string `json:"by,omitempty"`
	// Action is what is asked for; empty is ActionUpgrade.
	Action Action `json:"action,omitempty"`
	// Pin is the release that it is about.
	Pin release.Pin `json:"pin,omitzero"`
	// Leave is the release that an ActionRevert is to be rid of, by version, and by
	// digest where that is set. No other action has it.
	Leave release.Pin `json:"leave,omitzero"`
	// Probation is how long at least the successor is on probation, up to
	// Config.ProbationLimit; 0 is Config.Probation, which it never is below. A
	// rollback or a revert that is asked for in this time is warm. Should this
	// process die meanwhile, so that nothing warm is left to go back to, the
	// successor's probation is Config.Probation.
	Probation time.Duration `json:"probation_ns,omitempty"`
	// GiveUp is how long the attempt may take from when Upgrader.Request is called,
	// or the file of Ask is taken up: it has then ended by itself, as Failed or
	// RolledBack, what it waited for, the download and the way back included. It is
	// no reason to quarantine a release. 0 = no limit.
	GiveUp time.Duration `json:"give_up_ns,omitempty"`
	// Retain is how long at least what this request leaves behind is kept, up to
	// Config.RetentionLimit: of ActionStage what it has staged, of others the
	// release that is replaced. 0 is Config.Retention, which it never is below.
	Retain time.Duration `json:"retain_ns,omitempty"`
	// Program is the name that the release is signed for, as far as whoever
	// asks has told it. A host whose program has another name refuses.
	Program string `json:"program,omitempty"`
	// Asked is what the pin was resolved from, such as the range ^1.2.0, for
	// the record. Hosts decide nothing on it.
	Asked string `json:"asked,omitempty"`
	// Traceparent is the W3C trace context of whoever asks, which the attempt
	// then is part of; what is none counts as empty.
	Traceparent string `json:"traceparent,omitempty"`
	// Expect is what must be running, as a version or as
	// version@sha256:digest; empty for anything. A request that expects
	// something else is refused.
	Expect string `json:"expect,omitempty"`
	// Reason says why a host is held, for people.
	Reason string `json:"reason,omitempty"`
	// Force does it although the host program is busy, and beyond the budget
	// of starts. It overrides neither a hold nor a quarantine nor trust.
	Force bool `json:"force,omitempty"`
	// AllowWithdrawn has a rollback go to a release that this host knows to be
	// withdrawn, which is refused else. Of a Remote request it counts only under
	// RemoteRollbackAny.
	AllowWithdrawn bool `json:"allow_withdrawn,omitempty"`
	// Remote says that somebody outside the host asks, such as by an order in
	// etcd; Config.RemoteRollback then applies. No document says so, or who
	// writes it could say otherwise: it is for whoever receives the request.
	Remote bool `json:"-"`

	// due is when it must have ended, by GiveUp; see timed.
	due time.Time
}

// Answer says how a request ended that is no attempt.
type Answer struct {
	OrderID string `json:"order_id"`
	Action  Action `json:"action"`
	// Error says why it was not done; empty if it was.
	Error string `json:"error,omitempty"`
}

// Validate reports what keeps r from being performed by any host.
func (r Request) Validate() error {
	if !r.Action.Valid() && r.Action != "" {
		return fmt.Errorf("asks for %.40q, this release knows %s, %s, %s, %s, %s, %s and %s", r.Action, ActionUpgrade, ActionRollback, ActionStage, ActionRevert, ActionHold, ActionUnhold, ActionClear)
	}
	if err := r.checkBounds(); err != nil {
		return err
	}
	if err := checkExpect(r.Expect); err != nil {
		return err
	}
	if r.AllowWithdrawn && !r.Action.back() {
		return errNotRollback
	}
	if err := r.checkLeave(); err != nil {
		return err
	}
	if len(r.Asked) > wordBytes {
		return fmt.Errorf("asked for in %d bytes, at most %d are taken", len(r.Asked), wordBytes)
	}
	if len(r.Program) > wordBytes {
		return fmt.Errorf("is about a program whose name has %d bytes, at most %d are taken", len(r.Program), wordBytes)
	}
	if r.Action == "" || r.Action == ActionUpgrade || r.Action == ActionStage {
		return r.Pin.Validate()
	}
	return checkLoosePin(r.Pin)
}

// checkLoosePin takes no pin, a version alone, and a whole one.
func checkLoosePin(pin release.Pin) error {
	switch {
	case pin.Digest != "":
		return pin.Validate()
	case pin.Version != "":
		_, err := release.ParseVersion(pin.Version)
		return err
	}
	return nil
}

// checkLeave refuses a revert of nothing, and what is to be left by what is none.
func (r Request) checkLeave() error {
	if r.Action != ActionRevert {
		if !r.Leave.IsZero() {
			return errors.New("leave is about a revert alone: leave it out")
		}
		return nil
	}
	if r.Leave.Version == "" {
		return errors.New("a revert says in leave what it is to be rid of: give its version, and its digest where that is known")
	}
	if err := checkLoosePin(r.Leave); err != nil {
		return fmt.Errorf("what is to be left: %w", err)
	}
	return nil
}

// boundLimit is the longest time that a request may speak of.
const boundLimit = 10 * 365 * 24 * time.Hour

// checkBounds refuses times that mean nothing.
func (r Request) checkBounds() error {
	for _, bound := range []struct {
		what string
		time time.Duration
	}{{"probation", r.Probation}, {"give_up", r.GiveUp}, {"retain", r.Retain}} {
		switch {
		case bound.time < 0 || bound.time > boundLimit:
			return fmt.Errorf("%s is %v, between 0 and %v is taken", bound.what, bound.time, boundLimit)
		case bound.time != 0 && r.Action != "" && !r.Action.attempt():
			return fmt.Errorf("%s is about what changes the release, and %s does not: leave it out", bound.what, r.Action)
		}
	}
	return nil
}

// checkExpect refuses what could mean another release tomorrow.
func checkExpect(expect string) error {
	if expect == "" {
		return nil
	}
	_, err := release.ParseVersion(expect)
	if _, pinErr := release.ParsePin(expect); pinErr == nil {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("what is expected to run: want a version or version@sha256:digest: %w", err)
	}
	return nil
}

// expects returns why r does not fit what runs, nil if it does.
func (r Request) expects(running Ref) error {
	found := release.Pin{Version: running.Version, Digest: running.Manifest}
	if r.Expect == "" || r.Expect == running.Version || (found.Digest != "" && r.Expect == found.String()) {
		return nil
	}
	if found.Digest == "" {
		return fmt.Errorf("the request expects %s to run, %s was found: ask again", r.Expect, found.Version)
	}
	return fmt.Errorf("the request expects %s to run, %s was found: ask again", r.Expect, found)
}

// concerns returns why r is not about a program, nil if it is or does not say.
func (r Request) concerns(program string) error {
	if r.Program == "" || r.Program == program {
		return nil
	}
	return fmt.Errorf("the order is for release %s of %.140q, this host runs %q: ask for a release of %s, out of its repository and by its name (--name), or ask another host", r.Pin.Version, r.Program, program, program)
}

// Request puts r in line. A request that waits already is replaced, also one
// that waits for the host program's work to end: the newest wins. One that
// waits when a successor takes over waits there; one that is made after that
// is lost with this process, and one that is made in a successor that is then
// rolled back with that. A request with the ID of the one that is performed
// changes nothing, unless that was taken back.
func (u *Upgrader) Request(r Request) {
	if r.Action == "" {
		r.Action = ActionUpgrade
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if r.ID == "" || r.ID != u.inHand || u.retracted {
		u.line(r)
	}
}

// line makes r the request that waits. The caller holds the lock.
func (u *Upgrader) line(r Request) {
	if p := u.pending; p != nil && r.ID != "" && p.ID == r.ID && p.GiveUp == r.GiveUp {
		r.due = p.due
	}
	r = r.timed()
	r.Traceparent = tracing.Clean(r.Traceparent) // it may travel to a successor
	u.pending = &r
	u.nudge()
}

// queue puts the request in line that waited in the incumbent, nil for none.
// One that was made here is newer: the incumbent accepts nothing in probation.
// What an older incumbent hands over may be anybody's, and counts as remote.
func (u *Upgrader) queue(r *Request, here bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r != nil && u.pending == nil {
		r.Remote = !here
		u.line(*r)
	}
}

// waiting is the request in line, which stays there.
func (u *Upgrader) waiting() *Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.pending
}

// take returns the request in line, which is then in hand.
func (u *Upgrader) take() *Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.pending
	u.pending = nil
	if r != nil {
		u.hold(r.ID)
	}
	return r
}

// takeCommand returns the request in line if it is no attempt.
func (u *Upgrader) takeCommand() *Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.pending
	if r == nil || r.Action.attempt() {
		return nil
	}
	u.pending = nil
	return r
}

// obeyCommand performs the request in line if it is no attempt.
func (u *Upgrader) obeyCommand() {
	r := u.takeCommand()
	if r == nil {
		return
	}
	if err := u.obey(*r); err != nil {
		u.log.Warn("request failed", "action", r.Action, "attempt", r.ID, "error", err)
	}
}

// perform does what take has returned. Once it has ended, whatever its end,
// the same may be asked again. Its error is the attempt's.
func (u *Upgrader) perform(ctx context.Context, r Request) error {
	defer func() {
		u.mu.Lock()
		u.hold("")
		u.mu.Unlock()
		u.nudge() // an attempt may have heard of what came meanwhile
	}()
	if r.Action.attempt() {
		return u.attempt(ctx, r.timed()) // one that waited in a file is not yet
	}
	return u.obey(r)
}

// obey performs what is no attempt, and publishes the answer.
func (u *Upgrader) obey(r Request) error {
	err := u.command(r)
	answer := &Answer{OrderID: r.ID, Action: r.Action}
	if err != nil {
		answer.Error = err.Error()
	}
	u.publish(func(s *Status) { s.Answer = answer })
	return err
}

// command performs what is no attempt.
func (u *Upgrader) command(r Request) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if err := r.expects(u.running.Ref); err != nil {
		return err
	}
	switch r.Action {
	case ActionHold:
		return SetHold(u.cfg.StateDir, Hold{By: r.By, Reason: r.Reason})
	case ActionUnhold:
		return ClearHold(u.cfg.StateDir)
	case ActionClear:
		_, err := u.quarantine.clear(r.Pin)
		return err
	default:
		return fmt.Errorf("action %q cannot be performed here", r.Action)
	}
}
