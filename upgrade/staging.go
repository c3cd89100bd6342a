package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/upgrade/release"
)

// Staging says of a slot that its release was staged by ActionStage.
type Staging struct {
	// At is when it was.
	At time.Time `json:"at"`
	// Until is until when it is kept for that.
	Until time.Time `json:"until"`
	// Offered is until when the index is valid that offered it. Up to then it is
	// upgraded to without a repository: no more than whoever withholds a newer
	// index could bring about. Zero = never.
	Offered time.Time `json:"offered,omitzero"`
}

// stage ends an attempt that starts nothing: its slot is kept for a later one.
func (u *Upgrader) stage(slot Slot, r Request) error {
	if err := failpoint.Hit("stage-complete"); err != nil {
		return err
	}
	now := time.Now().UTC()
	slot.Staged = &Staging{At: now, Until: now.Add(max(u.cfg.Retention, u.keepFor(r)))}
	if x := u.client.Accepted(); x != nil && offers(x, r.Pin) {
		slot.Staged.Offered = x.Expires.UTC()
	}
	if err := slot.save(); err != nil {
		return fmt.Errorf("%s was staged and cannot be kept: %w; %s, then ask again", slot.Version, err, remedy(err, "make room there"))
	}
	if err := failpoint.Hit("stage-kept"); err != nil {
		return err
	}
	return u.move(Committed, func(a *Attempt) {
		a.To = slot.Ref
		a.Reason = fmt.Sprintf("staged, not started: kept until %s", slot.Staged.Until.Format(time.RFC3339))
	})
}

// offers reports whether x offers the release of pin.
func offers(x *release.Index, pin release.Pin) bool {
	e, err := x.Find(pin.Version)
	return err == nil && e.Pin() == pin
}

// kept reports whether the slot is kept at now for an upgrade that is to come.
func (s Slot) kept(now time.Time) bool { return s.Staged != nil && now.Before(s.Staged.Until) }

// waiting is the release that is kept for an upgrade that is to come, nil for none.
func (s slots) waiting() (*Ref, error) {
	complete, _, err := s.list()
	last := s.lastStaged(complete, time.Now())
	for _, slot := range complete {
		if slot.Name() == last {
			return &slot.Ref, err
		}
	}
	return nil, err
}

// errNotStaged has a release come from the repository.
var errNotStaged = errors.New("not staged")

// staged finds the slot of pin that can be upgraded to without a repository.
// What may have changed since it was staged is looked at again.
func (u *Upgrader) staged(pin release.Pin, now time.Time) (slot Slot, m *release.Manifest, err error) {
	complete, _, err := u.slots.list()
	if err != nil {
		return Slot{}, nil, err
	}
	for _, s := range complete {
		// A clock that was set back does not make an index valid for longer.
		if s.Version == pin.Version && s.Manifest == pin.Digest && s.kept(now) && !now.Before(s.Staged.At) && now.Before(s.Staged.Offered) {
			slot = s
		}
	}
	x := u.client.Accepted()
	if slot.dir == "" || u.unknown != nil || x != nil && !offers(x, pin) {
		return Slot{}, nil, errNotStaged
	}
	if err := slot.verify(); err != nil {
		return Slot{}, nil, err
	}
	raw, m, err := slot.signedManifest()
	if err != nil {
		return Slot{}, nil, err
	}
	signature, err := slot.signature()
	if err == nil {
		_, err = u.VerifyDocument(raw, signature) // its key may have been revoked
	}
	return slot, m, err
}

// prepareStaged is prepare for a release that was staged; errNotStaged where the
// repository is to be asked.
func (u *Upgrader) prepareStaged(ctx context.Context, r Request) (Slot, error) {
	u.heard() // of what was accepted since Run was free to hear it
	slot, m, err := u.staged(r.Pin, time.Now())
	if err != nil {
		if !errors.Is(err, errNotStaged) {
			u.attemptLog().Warn("the staged release is of no use and is asked of the repository", "error", err)
		}
		return Slot{}, errNotStaged
	}
	if why := withdrawnOf(u.known, slot.Ref); why != "" {
		return Slot{}, fmt.Errorf("%w: %s was withdrawn by its publisher (%s) since it was staged: ask for another", release.ErrYanked, slot.Version, why)
	}
	_, rule, err := u.compatible(m, false)
	if err != nil {
		return Slot{}, err
	}
	if err := u.quarantine.check(slot.Ref, time.Now()); err != nil {
		return Slot{}, err
	}
	for _, required := range u.cfg.Requirements {
		local, ok := required.(release.LocalRequirement)
		if !ok {
			continue // it was met when the release was staged
		}
		if err := local.Check(ctx, m, r.Pin); err != nil {
			return Slot{}, err
		}
	}
	u.journal.last.AllowedBy = rule + "; staged before"
	if err := slot.letIn(u.journal.last); err != nil {
		return Slot{}, err
	}
	return slot, u.move(Staged, func(a *Attempt) { a.To = slot.Ref })
}
