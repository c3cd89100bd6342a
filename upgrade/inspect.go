package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/perennial-go/perennial/internal/filelock"
)

// Report is what a state directory holds, for people and scripts.
type Report struct {
	Schema   int    `json:"schema"`
	StateDir string `json:"state_dir"`
	// Running tells whether a live agent holds the directory.
	Running bool `json:"running"`
	// Current is the name of the slot that boots next.
	Current string `json:"current"`
	Slots   []Slot `json:"slots"`
	// Unfinished names slots that an interrupted download left; the next
	// start removes them.
	Unfinished []string `json:"unfinished,omitempty"`
	// Provenance says where the release of each slot comes from, by the slot's
	// name.
	Provenance map[string]Provenance `json:"provenance,omitempty"`
	Journal    Attempt               `json:"journal"`
	Quarantine []Quarantined         `json:"quarantine,omitempty"`
	// Hold is set while the host is kept out of upgrades.
	Hold *Hold `json:"hold,omitempty"`
	// Retained are the releases that a rollback can go to, the one that ran
	// last first.
	Retained []Ref `json:"retained,omitempty"`
	// Withdrawn are those of the slots' releases that this host knows to be
	// withdrawn.
	Withdrawn []Withdrawn `json:"withdrawn,omitempty"`
	// Request waits to be taken up; see Ask.
	Request *Request `json:"request,omitempty"`
	// ColdStarts is set while the boot guard counts.
	ColdStarts *ColdStarts `json:"cold_starts,omitempty"`
	// Unreadable says why a document could not be read, whose field above is
	// then empty: a hold that cannot be read holds, a quarantine refuses.
	Unreadable map[Document]string `json:"unreadable,omitempty"`
}

// Document names a part of Report that is a file of its own.
type Document string

// The documents.
const (
	DocumentJournal    Document = "journal"
	DocumentQuarantine Document = "quarantine"
	DocumentHold       Document = "hold"
	DocumentRequest    Document = "request"
	DocumentWithdrawn  Document = "withdrawn"
	DocumentTrust      Document = "trust"
)

// ColdStarts is how often a release was started without becoming healthy.
type ColdStarts struct {
	Slot   string    `json:"slot"`
	Starts int       `json:"starts"`
	Since  time.Time `json:"since"`
}

// Inspect reads a state directory without changing anything, also while an
// agent runs on it. A document that cannot be read is no error: Unreadable
// tells of it, and the rest is there.
func Inspect(stateDir string) (Report, error) {
	if _, err := os.Stat(stateDir); err != nil {
		return Report{}, fmt.Errorf("state directory: %w; name the --state-dir of the agent", err)
	}
	r := Report{Schema: 1, StateDir: stateDir, Running: isLocked(stateDir)}
	s := slots{stateDir}
	cur, err := s.current()
	if errors.Is(err, fs.ErrNotExist) {
		return Report{}, fmt.Errorf("%s holds no current release: no agent has run on it yet", stateDir)
	}
	if err != nil {
		return Report{}, err
	}
	r.Current = cur.Name()
	if r.Slots, r.Unfinished, err = s.list(); err != nil {
		return Report{}, err
	}
	slices.SortFunc(r.Slots, func(a, b Slot) int { return a.Created.Compare(b.Created) })
	r.Provenance = map[string]Provenance{}
	revoked, err := readRevoked(stateDir)
	r.unreadable(DocumentTrust, err)
	for _, slot := range r.Slots {
		p := slot.provenance()
		r.Provenance[slot.Name()] = p.judgedBy(revoked)
	}
	r.Journal, err = readJournal(filepath.Join(stateDir, journalFile))
	r.unreadable(DocumentJournal, err)
	r.Quarantine, err = quarantine{stateDir}.entries()
	r.unreadable(DocumentQuarantine, err)
	r.Hold, err = ReadHold(stateDir)
	r.unreadable(DocumentHold, err)
	r.Request, err = readAsked(stateDir)
	r.unreadable(DocumentRequest, err)
	if r.Retained, err = s.returnable(cur.Ref); err != nil {
		return Report{}, err
	}
	known, err := readWithdrawn(stateDir)
	r.unreadable(DocumentWithdrawn, err)
	for _, slot := range r.Slots {
		r.Withdrawn = append(r.Withdrawn, present(known, slot.Ref)...)
	}
	if b := readBoots(stateDir); b.Starts > 0 {
		r.ColdStarts = &ColdStarts{b.Slot, b.Starts, b.Since}
	}
	return r, nil
}

// unreadable notes that d could not be read; a nil error notes nothing.
func (r *Report) unreadable(d Document, err error) {
	if err == nil {
		return
	}
	if r.Unreadable == nil {
		r.Unreadable = map[Document]string{}
	}
	r.Unreadable[d] = sentence(err.Error())
}

// isLocked reports whether a process holds the directory's lock.
func isLocked(dir string) bool {
	path := filepath.Join(dir, lockName)
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false // a FIFO would hold the caller up
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	// Taking and dropping the lock would race with an agent that starts, so
	// it is asked for shared.
	return filelock.LockShared(f) != nil
}
