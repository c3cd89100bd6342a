package upgrade

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/upgrade/release"
)

// trustFile is the release.ClientConfig.StateFile of a state directory.
const trustFile = "trust.json"

// Provenance says where a release on a host comes from: which commit, built
// when, signed by whom, and let in by which rule. It is read from what was
// verified when the release was staged, and is not verified again.
type Provenance struct {
	// Revision is the source revision, as the manifest or the executable
	// tells; empty if neither does.
	Revision string `json:"revision,omitempty"`
	// Created is when the release was built, in UTC.
	Created time.Time `json:"created,omitzero"`
	// Go is the toolchain; empty for what is not written in Go.
	Go string `json:"go,omitempty"`
	// SignedBy is who signed the manifest; nil for an executable that was
	// installed by other means.
	SignedBy *release.Signer `json:"signed_by,omitempty"`
	// AllowedBy is the rule of the policy by which it was let in; empty where
	// a release that keeps no record let it in.
	AllowedBy string `json:"allowed_by,omitempty"`
	// By is who asked for it.
	By string `json:"by,omitempty"`
	// Rollback is set where it became current last by a rollback; AllowedBy and
	// By are then of the upgrade that had brought it before.
	Rollback *Comeback `json:"rollback,omitempty"`
	// Revoked is set where the key that signed the manifest was revoked since, as
	// far as this host has heard, by its last look at the keyring.
	Revoked *release.RevokedKey `json:"revoked,omitempty"`
	// Error is what of this could not be read.
	Error string `json:"error,omitempty"`
}

// provenance reads what the slot's directory tells.
func (s Slot) provenance() Provenance {
	p := Provenance{AllowedBy: s.AllowedBy, By: s.By, Rollback: s.Rollback}
	if s.Adopted {
		p.built(s.binary())
		return p
	}
	if err := p.signed(s); err != nil {
		p.Error = err.Error()
	}
	return p
}

// built is all that an executable without a manifest can tell.
func (p *Provenance) built(binary string) {
	b, err := release.ReadBuild(binary)
	if err != nil {
		return // not one of Go; that is no error
	}
	p.Go, p.Created = b.Go, b.Time
	if p.Revision = b.Revision; b.Modified {
		p.Revision += "+dirty"
	}
}

func (p *Provenance) signed(s Slot) error {
	_, m, err := s.signedManifest()
	if err != nil {
		return err
	}
	p.Revision, p.Created = phrase(m.Revision), m.Created
	if here, err := m.Here(); err == nil && here.Build != nil {
		p.Go = here.Build.Go
	}
	signature, err := s.signature()
	if err != nil {
		return err
	}
	signer, err := release.ReadSigner(signature)
	if err != nil {
		return fmt.Errorf("%s.minisig of slot %s: %w", releaseFile, s.Name(), err)
	}
	p.SignedBy = &signer
	return nil
}

// signedManifest reads the manifest that was kept beside the executable, which
// is the one that was verified when it was staged.
func (s Slot) signedManifest() (raw []byte, m *release.Manifest, err error) {
	if raw, err = atomicfile.Read(filepath.Join(s.dir, releaseFile), release.MaxManifestSize); err != nil {
		return nil, nil, err
	}
	if sum := sha256.Sum256(raw); "sha256:"+hex.EncodeToString(sum[:]) != s.Manifest {
		return nil, nil, fmt.Errorf("%w: %s of slot %s is not the manifest that was staged: something wrote to it; ask for the release anew", release.ErrDigest, releaseFile, s.Name())
	}
	m, err = release.ParseManifest(raw)
	return raw, m, err
}

// signature reads that of the manifest.
func (s Slot) signature() ([]byte, error) {
	return atomicfile.Read(filepath.Join(s.dir, releaseFile+".minisig"), release.MaxManifestSize)
}

// letIn notes anew by which rule, and for whom, a slot that was there already
// is taken.
func (s Slot) letIn(a Attempt) error {
	rule, by := phrase(a.AllowedBy), phrase(a.By)
	if s.AllowedBy == rule && s.By == by {
		return nil
	}
	s.AllowedBy, s.By = rule, by
	return s.save()
}

// origin remembers the provenance of what runs: it is told in every status.
type origin struct {
	mu   sync.Mutex
	slot string
	told *Provenance
}

// forget has the slot's record read anew.
func (o *origin) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = nil
}

// of returns the provenance of the slot of ref, nil while there is none.
func (o *origin) of(s slots, ref Ref) *Provenance {
	if len(ref.Binary) != sha256.Size*2 {
		return nil // it is not known yet what runs
	}
	name := slotName(ref)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.slot != name || o.told == nil {
		slot, err := s.open(name)
		if err != nil {
			return nil // an executable that is adopted once it serves
		}
		p := slot.provenance()
		o.slot, o.told = name, &p
	}
	return o.told
}
