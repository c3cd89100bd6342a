package upgrade

import (
	"fmt"
	"path/filepath"

	"github.com/perennial-go/perennial/upgrade/release"
)

// readRevoked returns the keys that the host has ever heard to be revoked.
func readRevoked(stateDir string) ([]release.RevokedKey, error) {
	revoked, err := release.ReadRevoked(filepath.Join(stateDir, trustFile))
	for i := range revoked {
		revoked[i].Reason = phrase(revoked[i].Reason)
	}
	return revoked, err
}

// judgedBy is p with what is known of its key.
func (p *Provenance) judgedBy(revoked []release.RevokedKey) Provenance {
	told := *p
	for _, key := range revoked {
		if p.SignedBy != nil && p.SignedBy.Key == key.ID {
			told.Revoked = &key
		}
	}
	return told
}

// keyRule is what to add to the rule by which a rollback to s is allowed, where
// its key was revoked: that refuses none, for s was verified when it was taken.
func (s Slot) keyRule(revoked []release.RevokedKey) string {
	p := s.provenance()
	key := p.judgedBy(revoked).Revoked
	if key == nil {
		return ""
	}
	return fmt.Sprintf("; the key that signed it, %s, was revoked since", key.ID)
}

// provenance is where what runs comes from, nil until it has a slot.
func (u *Upgrader) provenance() *Provenance {
	p := u.origin.of(u.slots, u.running.Ref)
	if p == nil {
		return nil
	}
	told := p.judgedBy(u.revoked)
	return &told
}

// runningKey is the key of what runs where that was revoked.
func (u *Upgrader) runningKey() *release.RevokedKey {
	if p := u.provenance(); p != nil {
		return p.Revoked
	}
	return nil
}

// hearRevoked takes note of the keys that were revoked, and reports whether that
// changes what is told of the release that runs.
func (u *Upgrader) hearRevoked() (changed bool) {
	revoked, err := readRevoked(u.cfg.StateDir)
	if err != nil {
		u.log.Warn("which keys were revoked cannot be read", "error", err)
		return false
	}
	before := u.runningKey()
	u.revoked = revoked
	now := u.runningKey()
	if now != nil && before == nil {
		u.log.Warn("the key that signed the running release was revoked: upgrade to one that another key has signed", "release", u.running.Version, "key_id", now.ID, "reason", now.Reason)
	}
	return (before == nil) != (now == nil) || now != nil && (now.Reason != before.Reason || !now.Since.Equal(before.Since))
}
