package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
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

// active reports whether the entry keeps its release out at now.
func (q Quarantined) active(now time.Time) bool {
	return q.Until.IsZero() || now.Before(q.Until)
}

const (
	quarantineFile   = "quarantine.json"
	quarantineSchema = 1
	quarantineLimit  = 1 << 20
	quarantineMax    = 100
)

type quarantine struct {
	path    string
	entries []Quarantined
}

type quarantineDocument struct {
	Schema   int           `json:"schema"`
	Releases []Quarantined `json:"releases"`
}

func openQuarantine(stateDir string) (*quarantine, error) {
	q := &quarantine{path: filepath.Join(stateDir, quarantineFile)}
	data, err := readLimited(q.path, quarantineLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return q, nil
	}
	if err != nil {
		return nil, err
	}
	var doc quarantineDocument
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w; move it away to clear the quarantine", q.path, err)
	}
	if doc.Schema != quarantineSchema {
		return nil, fmt.Errorf("%s has schema %d, this agent reads %d", q.path, doc.Schema, quarantineSchema)
	}
	q.entries = doc.Releases
	return q, nil
}

// find returns the entry that keeps the release with manifest digest out.
func (q *quarantine) find(manifest string, now time.Time) (Quarantined, bool) {
	for _, e := range q.entries {
		if e.Manifest == manifest && manifest != "" && e.active(now) {
			return e, true
		}
	}
	return Quarantined{}, false
}

// add records a failure of ref. Entries beyond the newest 100 are dropped.
func (q *quarantine) add(ref Ref, class Class, reason string, now time.Time) error {
	e := Quarantined{Ref: ref, Since: now.UTC()}
	kept := q.entries[:0:0]
	for _, old := range q.entries {
		if old.Manifest == ref.Manifest && old.Binary == ref.Binary {
			e.Attempts = old.Attempts
			continue
		}
		kept = append(kept, old)
	}
	e.Class, e.Reason = class, reason
	e.Attempts++
	if class == BadEnvironment {
		e.Until = now.Add(min(time.Minute<<min(e.Attempts-1, 6), time.Hour)).UTC()
	}
	kept = append(kept, e)
	if len(kept) > quarantineMax {
		kept = kept[len(kept)-quarantineMax:]
	}
	if err := writeState(q.path, quarantineDocument{quarantineSchema, kept}); err != nil {
		return err
	}
	q.entries = kept
	return nil
}

// newest returns the latest failure, if any.
func (q *quarantine) newest() *Quarantined {
	if len(q.entries) == 0 {
		return nil
	}
	e := q.entries[len(q.entries)-1]
	return &e
}
