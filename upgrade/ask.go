package upgrade

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/ownership"
	"github.com/perennial-go/perennial/upgrade/release"
)

const (
	askedFile   = "request.json"
	askedSchema = 1
	askedLimit  = 64 << 10
	// followEvery is how often Follow looks, followAbsence how long it waits
	// for an agent that has gone: a service manager starts it again.
	followEvery   = 100 * time.Millisecond
	followAbsence = 30 * time.Second
)

// asked is a request that waits in a state directory.
type asked struct {
	Schema int `json:"schema"`
	Request
	At time.Time `json:"at"`
}

// Ask asks the agent of a state directory for an upgrade or a rollback by a
// file, and so without network. An agent that runs takes it up within its
// HealthEvery, or when what it performs has ended; one that does not, at its
// next start. A request that waits there is replaced. Ask returns r with the
// ID that it made up; Follow tells what becomes of it.
//
// For the other actions there are SetHold, ClearHold and ClearQuarantine,
// which need no agent.
func Ask(stateDir string, r Request) (Request, error) {
	if err := r.Validate(); err != nil {
		return Request{}, err
	}
	if r.ID = rand.Text(); r.Action == "" {
		r.Action = ActionUpgrade
	}
	if !r.Action.attempt() {
		return Request{}, fmt.Errorf("%s needs no agent: call the function for it on the state directory", r.Action)
	}
	if _, err := (slots{stateDir}).current(); err != nil {
		return Request{}, fmt.Errorf("no agent has run on %s yet, so that nobody would answer: %w", stateDir, err)
	}
	if err := ownership.Check(stateDir); err != nil {
		return Request{}, err
	}
	lock, err := lockAsked(stateDir)
	if err != nil {
		return Request{}, err
	}
	defer func() { _ = lock.Close() }()
	if err := writeState(filepath.Join(stateDir, askedFile), asked{askedSchema, r, time.Now().UTC()}); err != nil {
		return Request{}, fmt.Errorf("request cannot be written: %w", err)
	}
	return r, nil
}

// lockAsked keeps those who ask from replacing a request between the look at
// it and its removal.
func lockAsked(stateDir string) (*os.File, error) {
	return waitForLock(filepath.Join(stateDir, askedFile+".lock"))
}

// readAsked returns the request that waits, nil if none does.
func readAsked(stateDir string) (*Request, error) {
	path := filepath.Join(stateDir, askedFile)
	var a asked
	found, err := readState(path, askedLimit, askedSchema, &a)
	if err != nil {
		return nil, fmt.Errorf("%w; ask again", err)
	}
	if !found {
		return nil, nil //nolint:nilnil // the absence of a request is no error
	}
	if a.ID == "" || !a.Action.attempt() {
		return nil, fmt.Errorf("%s: want an id and what changes the release, found id %q and action %q; ask again", path, a.ID, a.Action)
	}
	return &a.Request, nil
}

// dropAsked removes the request that waits if it is the one called id.
func dropAsked(stateDir, id string) error {
	lock, err := lockAsked(stateDir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if r, err := readAsked(stateDir); err == nil && (r == nil || r.ID != id) {
		return nil
	}
	return removeState(filepath.Join(stateDir, askedFile))
}

// asked returns the request that waits in the state directory, nil for none.
// One that the journal knows was taken up before a crash; one that makes no
// sense is removed, or it would stand in the way of the next for ever.
func (u *Upgrader) asked() *Request {
	r, err := readAsked(u.cfg.StateDir)
	switch {
	case err != nil:
		u.log.Error("request refused", "error", err)
		u.drop("")
		return nil
	case r == nil || r.ID == u.dropped:
		return nil
	case r.ID == u.journal.last.OrderID || slices.Contains(u.journal.last.Earlier, r.ID):
		u.drop(r.ID)
		return nil
	}
	return r
}

// takenUp ends the wait of the request called id, which is in the journal. A
// crash before that leaves both, and asked sees by the journal that it is
// settled.
func (u *Upgrader) takenUp(id string) error {
	if r, err := readAsked(u.cfg.StateDir); err == nil && r != nil && r.ID == id {
		if err := failpoint.Hit("request-begun"); err != nil {
			return err
		}
		u.drop(id)
	}
	return nil
}

// drop removes a request, and remembers it where the file system does not let
// it: it must not be performed over and over.
func (u *Upgrader) drop(id string) {
	u.dropped = id
	if err := dropAsked(u.cfg.StateDir, id); err != nil {
		u.log.Error("request could not be removed from the state directory", "attempt", id, "error", err)
	}
}

// newer returns the request that is next: the host's own comes before the
// registry's.
func (u *Upgrader) newer() *Request {
	if r := u.asked(); r != nil {
		return r
	}
	return u.waiting()
}

// Follow tells the progress of the request called id, which Ask has made,
// until it has ended, and returns how. Errors: ctx's, ErrNotFound if a newer
// request took its place or the agent refused it unread, or that no agent runs
// on the directory for 30 s, while the request waits on.
func Follow(ctx context.Context, stateDir, id string, progress func(Attempt)) (last Attempt, err error) {
	look := time.NewTicker(followEvery)
	defer look.Stop()
	alive := time.Now()
	var told time.Time
	for {
		// In this order: what does not wait any more is in the journal.
		waits, askedErr := readAsked(stateDir)
		a, err := readJournal(filepath.Join(stateDir, journalFile))
		if err != nil {
			return last, err
		}
		switch {
		case a.OrderID == id:
			if last = a; !a.Updated.Equal(told) {
				told = a.Updated
				progress(a)
			}
			if a.State.Terminal() {
				return last, nil
			}
		case slices.Contains(a.Earlier, id):
			return last, fmt.Errorf("request %s has ended and another has followed: %w in the journal; the agent's log tells how it ended", id, release.ErrNotFound)
		case askedErr == nil && (waits == nil || waits.ID != id):
			return last, fmt.Errorf("request %s: %w in the state directory any more: a newer one took its place, or the agent's log tells why it was refused", id, release.ErrNotFound)
		}
		if isLocked(stateDir) {
			alive = time.Now()
		} else if time.Since(alive) > followAbsence {
			return last, fmt.Errorf("no agent has run on %s for %v: start it, and it goes on with request %s", stateDir, followAbsence, id)
		}
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-look.C:
		}
	}
}
