package upgrade

import (
	"cmp"
	"fmt"
	"time"
)

// A request to go back that comes while a successor is on probation ends it: the
// process before still has everything, so that this takes no start. The request
// stays in line, and is answered by an attempt of its own. Until then the
// journal's RecalledBy says that it was done, so that whoever finds it after a
// crash does not go back once more.

// attend does what is asked meanwhile, and returns why the successor is not wanted
// any more if that is asked.
func (t *trial) attend() *failure {
	t.obeyCommand()
	return t.recalled()
}

// extension is how much longer than by the host's own Probation the successor is
// on probation. It is for the warm way back alone, so that whatever else is asked
// for ends it.
func (t *trial) extension() time.Duration {
	if r := t.newer(); r != nil && (!t.isAbout(*r) || t.hasRefused(*r)) {
		return 0
	}
	return time.Until(t.trusted)
}

// recalled returns why the successor is not wanted any more: it was asked to go.
func (t *trial) recalled() *failure {
	r := t.newer()
	if r == nil || !t.isAbout(*r) || t.hasRefused(*r) {
		return nil
	}
	if err := t.mayRecall(*r); err != nil {
		t.refused = r.ID // its turn comes, and with it the answer
		t.attemptLog().Warn("request ends no probation", "action", r.Action, "reason", err)
		return nil
	}
	reason := fmt.Sprintf("%s was asked for in its probation by %s", r.Action, cmp.Or(phrase(r.By), "somebody"))
	if why := phrase(r.Reason); why != "" {
		reason += ": " + why
	}
	return &failure{reason: reason, recall: r.ID}
}

// hasRefused reports whether r was found not to end this.
func (t *trial) hasRefused(r Request) bool { return r.ID != "" && r.ID == t.refused }

// isAbout reports whether r leads from the successor to what ran before it. A
// rollback without a pin is known by its id afterwards, or it would go further
// back.
func (t *trial) isAbout(r Request) bool {
	switch r.Action {
	case ActionRevert:
		return t.slot.isNamed(r.Leave)
	case ActionRollback:
		return t.running.isNamed(r.Pin) && (r.ID != "" || !r.Pin.IsZero())
	default:
		return false
	}
}

// mayRecall refuses what would be refused once the successor had committed: who
// may not have the host go back may not keep it from going forward either.
func (t *trial) mayRecall(r Request) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if err := held(t.cfg.StateDir); err != nil {
		return err
	}
	if err := r.concerns(t.cfg.Name); err != nil {
		return err
	}
	if err := r.expects(t.running.Ref); err != nil {
		return err
	}
	if err := t.cfg.mayRollBack(r); err != nil {
		return err
	}
	_, err := t.withdrawnRule(r, t.running)
	return err
}
