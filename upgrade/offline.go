package upgrade

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/ownership"
)

// RollBack makes the retained release that r.Pin names current while no agent
// runs on the state directory, so that the next start boots it; a zero Pin is
// the release that ran before. It is for a release that does not come up to
// where it could hear Ask. The journal tells of it as the rollback of the
// release that was current, which stays retained. Where that release is current
// already the attempt returned is Committed, says so, and is not recorded.
//
// Neither hooks nor Host.Compatible are asked: they are the program's, which
// does not run. Errors: ErrLocked if an agent runs, ErrHeld, ErrNotFound,
// ErrQuarantined, release.ErrYanked for what this host knows to be withdrawn
// unless r says AllowWithdrawn, or that the state expected is not there.
func RollBack(stateDir string, r Request) (Attempt, error) {
	if r.Action = ActionRollback; r.ID == "" {
		r.ID = rand.Text()
	}
	if err := r.Validate(); err != nil {
		return Attempt{}, err
	}
	if err := ownership.Check(stateDir); err != nil {
		return Attempt{}, err
	}
	lock, err := lockState(stateDir)
	if err != nil {
		return Attempt{}, err
	}
	defer func() { _ = lock.Close() }()
	j, err := openJournal(stateDir)
	if err != nil {
		return Attempt{}, err
	}
	s, now := slots{stateDir}, time.Now().UTC()
	way, err := offline(stateDir, j.last, r)
	from, to := way.from, way.to
	if errors.Is(err, errRunsAlready) {
		// As an agent that runs answers it.
		return Attempt{
			Schema: journalSchema, OrderID: r.ID, By: r.By, Action: ActionRollback, State: Committed, From: from.Ref, To: from.Ref,
			Started: now, Updated: now, Reason: fmt.Sprintf("nothing to do: %s is current already", from.Version),
		}, nil
	}
	if err != nil {
		return Attempt{}, err
	}
	// The direction of the record is that of what is taken back, so that a
	// start which finds it half done goes on with it.
	err = j.abandon(Attempt{
		OrderID: r.ID, By: r.By, Action: ActionRollback, From: to.Ref, To: from.Ref, Started: now, AllowedBy: way.rule,
		Traceparent: j.last.traceOf(from.Ref),
		Reason:      fmt.Sprintf("%s was current and was rolled back by hand while no agent ran", from.Version),
	})
	if err == nil {
		err = failpoint.Hit("offline-begun")
	}
	if err == nil {
		err = s.revert(j.last, now)
	}
	if err == nil {
		err = j.move(RolledBack, nil)
	}
	return j.last, err
}

// wayBack is what a rollback leads from and to, and what allows it.
type wayBack struct {
	from, to Slot
	rule     string
}

// offline finds the way that RollBack takes. With errRunsAlready it tells from.
func offline(stateDir string, last Attempt, r Request) (w wayBack, err error) {
	s := slots{stateDir}
	if w.from, err = s.current(); err != nil {
		return w, err
	}
	if !last.State.Terminal() && last.State != Idle {
		return w, fmt.Errorf("the journal shows an attempt in state %s that was interrupted: start the agent, which ends it", last.State)
	}
	if err := held(stateDir); err != nil {
		return w, err
	}
	if r.runs(w.from.Ref) {
		return w, errRunsAlready
	}
	if err := r.expects(w.from.Ref); err != nil {
		return w, err
	}
	if w.to, err = s.retained(r.Pin, w.from.Name()); err != nil {
		return w, err
	}
	if err := (quarantine{stateDir}).check(w.to.Ref, time.Now()); err != nil {
		return w, err
	}
	retained, err := s.returnable(w.from.Ref)
	if err != nil {
		return w, err
	}
	r.Remote = false // who calls this is on the host
	known, unknown := readWithdrawn(stateDir)
	besides, err := backTo{request: r, slot: w.to, known: known, unknown: unknown}.allowed(retained)
	revoked, unreadable := readRevoked(stateDir)
	if unreadable != nil {
		besides = "; whether its key was revoked cannot be read" + besides
	}
	w.rule = "retained on this host, whose user asks while no agent runs" + w.to.keyRule(revoked) + besides
	return w, err
}
