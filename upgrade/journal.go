package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/upgrade/release"
)

const (
	journalFile   = "journal.json"
	journalSchema = 1
	journalLimit  = 1 << 20
	// wordBytes bounds what a request says of itself, and the rule by which a
	// release was let in, which repeats what the release requires.
	wordBytes  = 1 << 10
	earlierMax = 8
)

// Ref names a release on one host.
type Ref struct {
	// Version is the SemVer version.
	Version string `json:"version"`
	// Manifest is the digest of the signed manifest, "sha256:<hex>"; empty
	// for an executable that was adopted rather than downloaded.
	Manifest string `json:"manifest,omitempty"`
	// Binary is the sha256 of the executable in hex; empty before it is known.
	Binary string `json:"binary,omitempty"`
}

// isNamed reports whether pin is about the release: by version and digest, as far as
// it has them.
func (r Ref) isNamed(pin release.Pin) bool {
	return (pin.Version == "" || pin.Version == r.Version) && (pin.Digest == "" || pin.Digest == r.Manifest)
}

// Pinned names the release as a pin, 1.2.0@sha256:…, or by its version alone
// where it was adopted and has no manifest.
func (r Ref) Pinned() string {
	if r.Manifest == "" {
		return r.Version
	}
	return r.Version + "@" + r.Manifest
}

// Attempt is one attempt to change the running release: what the journal
// keeps and what is reported of it.
type Attempt struct {
	Schema int `json:"schema"`
	// OrderID is the id of the request that asked for this attempt.
	OrderID string `json:"order_id"`
	// By is who asked, as the request gave it.
	By string `json:"by,omitempty"`
	// Action is that of the request; empty in the records of older releases, which
	// know upgrades only.
	Action Action `json:"action,omitempty"`
	State  State  `json:"state"`
	From   Ref    `json:"from"`
	To     Ref    `json:"to"`
	// Asked is what was asked for where the pin was resolved from a range, for
	// the record; nothing is decided on it.
	Asked string `json:"asked,omitempty"`
	// AllowedBy is the rule of the policy by which the release was let in;
	// empty until it is, and in the records of older releases.
	AllowedBy string `json:"allowed_by,omitempty"`
	// Traceparent is the W3C trace context of the attempt, by which a successor
	// or the next start goes on with its trace; empty where there is none.
	Traceparent string `json:"traceparent,omitempty"`
	// Probation is how long at least the successor is on probation, and Retain how
	// long the release that it replaces is kept, where the request has them above
	// what the host is set to; 0 else.
	Probation time.Duration `json:"probation_ns,omitempty"`
	Retain    time.Duration `json:"retain_ns,omitempty"`
	// GiveUp is when the attempt must have ended, as the request has it; zero
	// where it has no limit.
	GiveUp time.Time `json:"give_up,omitzero"`
	// RecalledBy is the id of the request that ended the probation, which with it
	// was done.
	RecalledBy string `json:"recalled_by,omitempty"`
	// Unbegun is set of one that is Failed and of which nothing was begun for a
	// reason that is not the release's; empty else, and where a crash ended it.
	Unbegun Unbegun `json:"unbegun,omitempty"`
	// Reason says why the attempt ended, empty while it succeeds.
	Reason string `json:"reason,omitempty"`
	// Class tells a bad binary from a bad environment, once it has failed
	// after its start.
	Class Class `json:"class,omitempty"`
	// Log holds the successor's last lines on stdout and stderr, at most 50.
	Log []string `json:"log,omitempty"`
	// Earlier lists the ids of requests that ended before this one, the
	// newest first and at most 8, so that none is performed twice.
	Earlier []string `json:"earlier,omitempty"`
	// Abandoned is set where a release is left that had been committed: by the
	// boot guard, or by RollBack.
	Abandoned bool      `json:"abandoned,omitempty"`
	Started   time.Time `json:"started"`
	Updated   time.Time `json:"updated"`
	// Deadline is when the present state is given up; zero where none is.
	Deadline time.Time `json:"deadline,omitzero"`
}

// id tells the attempt from others of this host: that of the request, or when
// it began where nobody asked for it.
func (a Attempt) id() string {
	if a.OrderID == "" {
		return a.Started.UTC().Format(time.RFC3339)
	}
	return a.OrderID
}

// ended lists the ids of requests that have ended when the one called next
// begins. What has recalled a is done, and is next as a rule, for its answer. What
// was taken back may be asked for again.
func (a Attempt) ended(next string) (ids []string) {
	for _, id := range []string{a.RecalledBy, a.OrderID} {
		if id != "" && id != next && (id != a.OrderID || a.Unbegun != UnbegunRetracted) {
			ids = append(ids, id)
		}
	}
	ids = append(ids, a.Earlier...)
	return ids[:min(len(ids), earlierMax)]
}

// journal is the attempt in progress, or the last one, on disk. Its owner is
// the process in charge: the incumbent until it says commit, then the
// successor.
type journal struct {
	path   string
	last   Attempt
	totals *totals // of all attempts that have ended; nil = none
}

// entry is the journal as it is on disk.
type entry struct {
	Attempt
	// Totals is for metrics alone: nothing is decided on it.
	Totals json.RawMessage `json:"totals,omitempty"`
}

func openJournal(stateDir string) (*journal, error) {
	j := &journal{path: filepath.Join(stateDir, journalFile)}
	e, err := readEntry(j.path)
	if err != nil {
		return nil, err
	}
	j.last, j.totals = e.Attempt, parseTotals(e.Totals)
	return j, nil
}

func readJournal(path string) (Attempt, error) {
	e, err := readEntry(path)
	return e.Attempt, err
}

func readEntry(path string) (entry, error) {
	data, err := atomicfile.Read(path, journalLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return entry{Attempt: Attempt{Schema: journalSchema, State: Idle}}, nil
	}
	if err != nil {
		return entry{}, err
	}
	return parseJournal(data)
}

func parseJournal(data []byte) (entry, error) {
	var e entry
	if err := json.Unmarshal(data, &e); err != nil {
		return entry{}, fmt.Errorf("%s is not a journal: %w; move it away to start afresh, current stays as it is", journalFile, err)
	}
	if e.Schema != journalSchema {
		return entry{}, fmt.Errorf("%s has schema %d, this agent reads %d: a newer agent wrote it", journalFile, e.Schema, journalSchema)
	}
	if !e.State.Valid() {
		return entry{}, fmt.Errorf("%s holds the unknown state %q", journalFile, e.State)
	}
	return e, nil
}

// begin starts the record of a new attempt.
func (j *journal) begin(a Attempt) error {
	if err := transition(j.last.State, Requested); err != nil {
		return err
	}
	a.Schema, a.State, a.Earlier = journalSchema, Requested, j.last.ended(a.OrderID)
	return j.write(a)
}

// abandon starts the record of a rollback that nobody asked for: a release
// that does not start is given up, whatever became of the last attempt.
func (j *journal) abandon(a Attempt) error {
	if err := transition(j.last.State, RollingBack); err != nil {
		return err
	}
	a.Schema, a.State, a.Abandoned, a.Earlier = journalSchema, RollingBack, true, j.last.ended(a.OrderID)
	err := j.write(a)
	if err != nil {
		j.last = a // as move does
	}
	return err
}

// move records that the attempt is now in state to, before the effect that
// the state stands for; edit may set further fields.
//
// The way back must not need a disk that can be written: an end, and the way
// to it, hold in memory even where the file could not follow. The file then
// shows an attempt in progress, which the next start ends.
func (j *journal) move(to State, edit func(*Attempt)) error {
	if err := transition(j.last.State, to); err != nil {
		return err
	}
	a := j.last
	a.State, a.Deadline = to, time.Time{}
	if edit != nil {
		edit(&a)
	}
	if to.Terminal() {
		// In the write that tells of the end: it counts once, whoever dies.
		j.totals = j.totals.ended(a, time.Now())
	}
	err := j.write(a)
	if err != nil && (to == RollingBack || to.Terminal()) {
		j.last = a
	}
	return err
}

// phrase bounds what a request, or a release in its requirements, says of
// itself: printable, on one line, cut between two characters.
func phrase(s string) string { return printable(strings.ReplaceAll(s, "\t", " "), wordBytes) }

func (j *journal) write(a Attempt) error {
	a.Updated = time.Now().UTC()
	// What cannot be bounded at its source must not make a journal that the
	// next start refuses.
	a.Reason = sentence(a.Reason)
	a.Asked, a.By, a.AllowedBy = phrase(a.Asked), phrase(a.By), phrase(a.AllowedBy)
	a.OrderID = a.OrderID[:min(len(a.OrderID), wordBytes)]
	a.RecalledBy = a.RecalledBy[:min(len(a.RecalledBy), wordBytes)]
	if err := writeState(j.path, entry{Attempt: a, Totals: j.totals.encoded()}); err != nil {
		return fmt.Errorf("the journal in the state directory cannot be written: %w; %s, then ask again", err, remedy(err, "make room there"))
	}
	j.last = a
	return nil
}
