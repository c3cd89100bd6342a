package upgrade

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/perennial-go/perennial/internal/ownership"
	"github.com/perennial-go/perennial/upgrade/release"
)

// Class tells why a release failed after its start, and so for how long it
// is kept out.
type Class string

const (
	// BadBinary means that the release itself failed. It is refused until the entry is
	// cleared or another digest is asked for.
	BadBinary Class = "binary"
	// BadEnvironment means that the host failed it, for example checks that failed in
	// the incumbent too. It is refused for a back-off that doubles from one
	// minute to one hour.
	BadEnvironment Class = "environment"
)

// Quarantined is one release that failed on this host.
type Quarantined struct {
	Ref
	Class  Class  `json:"class"`
	Reason string `json:"reason"`
	// Attempts counts the failures.
	Attempts int       `json:"attempts"`
	Since    time.Time `json:"since"`
	// Until is when it may be tried again; zero means not before it is cleared.
	Until time.Time `json:"until,omitzero"`
}

// Active reports whether the entry keeps its release out at now.
func (q Quarantined) Active(now time.Time) bool {
	return q.Until.IsZero() || now.Before(q.Until)
}

const (
	quarantineFile   = "quarantine.json"
	quarantineSchema = 1
	quarantineLimit  = 1 << 20
	quarantineMax    = 100
	quarantineTold   = 10 // entries in Status
)

// quarantine keeps releases that failed out. The file is the truth, not this
// process's memory: an operator clears it from outside while the agent runs.
type quarantine struct{ stateDir string }

type quarantineDocument struct {
	Schema   int           `json:"schema"`
	Releases []Quarantined `json:"releases"`
}

// entries are all there are, the oldest failure first.
func (q quarantine) entries() ([]Quarantined, error) {
	var doc quarantineDocument
	_, err := readState(filepath.Join(q.stateDir, quarantineFile), quarantineLimit, quarantineSchema, &doc)
	if err != nil {
		return nil, fmt.Errorf("%w; move it away to clear the quarantine", err)
	}
	return doc.Releases, nil
}

// change replaces the entries by what edit makes of them, alone among the
// processes that do so.
func (q quarantine) change(edit func([]Quarantined) []Quarantined) error {
	lock, err := waitForLock(filepath.Join(q.stateDir, quarantineFile+".lock"))
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	entries, err := q.entries()
	if err != nil {
		return err
	}
	return writeState(filepath.Join(q.stateDir, quarantineFile), quarantineDocument{quarantineSchema, edit(entries)})
}

// check returns ErrQuarantined if ref is kept out at now.
func (q quarantine) check(ref Ref, now time.Time) error {
	entries, err := q.entries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Active(now) || !q.keepsOut(e, ref) {
			continue
		}
		until := "publish a fixed release, or clear it from quarantine"
		if !e.Until.IsZero() {
			until = "it may be tried again at " + e.Until.Format(time.RFC3339)
		}
		return fmt.Errorf("%s failed here at %s: %s: %w; %s", ref.Version, e.Since.Format(time.RFC3339), e.Reason, ErrQuarantined, until)
	}
	return nil
}

// keepsOut reports whether e is about ref. A release that has passed its
// probation on this host, or was adopted, and still has its slot is kept out by
// its own failures only, not by those of another release with the same
// executable, such as the same file signed as another version.
func (q quarantine) keepsOut(e Quarantined, ref Ref) bool {
	if !e.is(ref) {
		return false
	}
	if e.Manifest == ref.Manifest || len(ref.Binary) != sha256.Size*2 {
		return true
	}
	slot, err := slots(q).open(slotName(ref))
	return err != nil || slot.Proven.IsZero() || slot.Manifest == e.Manifest
}

// is compares by the signed manifest and by the executable: a release that
// was adopted has no manifest, and one that is published again under another
// manifest is no better for it.
func (q Quarantined) is(ref Ref) bool {
	return (ref.Manifest != "" && q.Manifest == ref.Manifest) || (ref.Binary != "" && q.Binary == ref.Binary)
}

// forGood reports whether ref is kept out until it is cleared.
func (q quarantine) forGood(ref Ref) bool {
	entries, err := q.entries()
	return err == nil && slices.ContainsFunc(entries, func(e Quarantined) bool { return e.Until.IsZero() && q.keepsOut(e, ref) })
}

// add records a failure of ref. Entries beyond the newest 100 are dropped.
func (q quarantine) add(ref Ref, class Class, reason string, now time.Time) error {
	return q.change(func(entries []Quarantined) []Quarantined {
		e := Quarantined{Ref: ref, Class: class, Reason: sentence(reason), Attempts: 1, Since: now.UTC()}
		kept := entries[:0:0]
		for _, old := range entries {
			if old.is(ref) {
				e.Attempts += old.Attempts
				continue
			}
			kept = append(kept, old)
		}
		if class == BadEnvironment {
			e.Until = now.Add(min(time.Minute<<min(e.Attempts-1, 6), time.Hour)).UTC()
		}
		kept = append(kept, e)
		return kept[max(0, len(kept)-quarantineMax):]
	})
}

// clear removes the entries that pin names, all for a zero pin, and returns
// them.
func (q quarantine) clear(pin release.Pin) (cleared []Quarantined, err error) {
	err = q.change(func(entries []Quarantined) []Quarantined {
		return slices.DeleteFunc(entries, func(e Quarantined) bool {
			named := e.isNamed(pin)
			if named {
				cleared = append(cleared, e)
			}
			return named
		})
	})
	if err == nil && len(cleared) == 0 && !pin.IsZero() {
		err = fmt.Errorf("%s is not in quarantine: %w", pin.Version, release.ErrNotFound)
	}
	return cleared, err
}

// ClearQuarantine lets the releases that pin names be tried again: by
// version, and by digest where that is set; a zero Pin means all. It returns
// what it cleared, and may be called while an agent runs on stateDir. The
// error wraps ErrNotFound if pin names none.
func ClearQuarantine(stateDir string, pin release.Pin) ([]Quarantined, error) {
	if err := ownership.Check(stateDir); err != nil {
		return nil, err
	}
	if err := (Request{Action: ActionClear, Pin: pin}).Validate(); err != nil {
		return nil, err
	}
	return quarantine{stateDir}.clear(pin)
}
