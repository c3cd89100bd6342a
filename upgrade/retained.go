package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/upgrade/release"
)

// retained returns the slot to go back to: the one that pin names, or for a
// zero pin the one that was replaced last. Only releases that have passed
// their probation on this host count.
func (s slots) retained(pin release.Pin, running string) (Slot, error) {
	complete, _, err := s.list()
	if err != nil {
		return Slot{}, err
	}
	var found *Slot
	var there []string
	for i, slot := range complete {
		if slot.Name() == running || slot.Proven.IsZero() {
			continue
		}
		there = append(there, slot.Version)
		if slot.isNamed(pin) && (found == nil || slot.retiredAfter(*found)) {
			found = &complete[i]
		}
	}
	if found != nil {
		return *found, found.verify()
	}
	have := "none is"
	if len(there) > 0 {
		have = strings.Join(there, ", ") + " is"
	}
	want := "release to go back to"
	if !pin.IsZero() {
		want = pin.Version
	}
	return Slot{}, fmt.Errorf("%w: no %s is %w, %s: go back to one of those, or publish the older code under a higher version", release.ErrNotFound, want, errNotRetained, have)
}

var errNotRetained = errors.New("retained on this host")

// targetOf finds the slot that r leads to. A revert asks all hosts alike: where the
// release was installed by hand, so that nobody knows its manifest, it is meant,
// too.
func (s slots) targetOf(r Request, running string) (Slot, error) {
	slot, err := s.retained(r.Pin, running)
	if r.Action != ActionRevert || r.Pin.Digest == "" || !errors.Is(err, errNotRetained) {
		return slot, err
	}
	if byHand, none := s.retained(release.Pin{Version: r.Pin.Version}, running); none == nil && byHand.Manifest == "" {
		return byHand, nil
	}
	return slot, err
}

// returnable lists the releases that a rollback can go to, the one that was
// replaced last first.
func (s slots) returnable(running Ref) ([]Ref, error) {
	complete, _, err := s.list()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(complete, func(a, b Slot) int { // as retained prefers them
		switch {
		case a.retiredAfter(b):
			return -1
		case b.retiredAfter(a):
			return 1
		}
		return 0
	})
	var refs []Ref
	for _, slot := range complete {
		if slot.Ref.Binary != running.Binary && !slot.Proven.IsZero() && quarantine(s).check(slot.Ref, time.Now()) == nil {
			refs = append(refs, slot.Ref)
		}
	}
	return refs, nil
}

// retiredAfter reports whether s was replaced later than other. A slot without
// the mark was replaced just now: a crash came before it was made.
func (s Slot) retiredAfter(other Slot) bool {
	return !other.Retired.IsZero() && (s.Retired.IsZero() || s.Retired.After(other.Retired))
}

// verify compares the executable with the digest that it was staged for.
func (s Slot) verify() error {
	digest, err := fileDigest(s.binary())
	if err == nil && digest != s.Ref.Binary {
		err = fmt.Errorf("%w: slot %s holds an executable with sha256 %s: something wrote to it; ask for the release anew", release.ErrDigest, s.Name(), digest)
	}
	return err
}

// manifest reads the signed manifest that was kept beside the executable; nil
// for an adopted executable, which never had one.
func (s Slot) manifest() (*release.Manifest, error) {
	if s.Adopted {
		return nil, nil //nolint:nilnil // an adopted executable has none
	}
	raw, err := atomicfile.Read(filepath.Join(s.dir, releaseFile), release.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	return release.ParseManifest(raw)
}

// prepareRollback finds the retained slot that r asks for. Nothing is read
// from outside the state directory, so neither the network nor the expiry of
// an index stands in the way.
func (u *Upgrader) prepareRollback(ctx context.Context, r Request) (Slot, error) {
	if err := u.cfg.mayRollBack(r); err != nil {
		return Slot{}, err
	}
	slot, err := u.slots.targetOf(r, u.running.Name())
	if errors.Is(err, errNotRetained) && r.Pin.Digest != "" && u.client != nil && u.cfg.Policy.AllowOlder {
		return u.prepare(ctx, r)
	}
	if err != nil {
		return Slot{}, err
	}
	if err := u.quarantine.check(slot.Ref, time.Now()); err != nil {
		return Slot{}, err
	}
	manifest, err := slot.manifest()
	if err != nil {
		return Slot{}, fmt.Errorf("slot %s: %w", slot.Name(), err)
	}
	rule := "retained on this host, where it passed its probation; adopted, so without a manifest"
	if manifest != nil {
		host := release.PolicyContext{Rollback: true, PluginAPI: u.cfg.PluginAPI, ConfigSchema: u.cfg.ConfigSchema}
		if rule, err = release.Admit(u.cfg.Policy, nil, manifest, host); err != nil {
			return Slot{}, err
		}
	}
	besides, err := u.withdrawnRule(r, slot)
	if err != nil {
		return Slot{}, err
	}
	rule += slot.keyRule(u.revoked) + besides
	if err := u.cfg.Host.Compatible(slot.Version); err != nil {
		return Slot{}, fmt.Errorf("%s: %w: %w", slot.Version, release.ErrRequires, err)
	}
	return slot, u.move(Staged, func(a *Attempt) { a.To, a.AllowedBy = slot.Ref, rule })
}

// withdrawnRule refuses to go back to a slot that is withdrawn, and returns what to
// add to the rule where that is allowed.
func (u *Upgrader) withdrawnRule(r Request, slot Slot) (string, error) {
	retained, err := u.slots.returnable(u.running.Ref)
	if err != nil {
		return "", err
	}
	u.heard() // of what was accepted since Run was free to hear it
	return backTo{r, slot, u.known, u.unknown, u.cfg.RemoteRollback}.allowed(retained)
}

// size is the room that the slot takes, in bytes.
func (s Slot) size() int64 {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0
	}
	var sum int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
	}
	return sum
}
