package upgrade

import (
	"fmt"
	"path/filepath"
	"time"
)

const (
	startsFile   = "starts.json"
	startsSchema = 1
	startsLimit  = 1 << 20
	startsMax    = 100
)

// Budget bounds how often one release is started on a host, so that orders
// which contradict each other cannot swap a host to and fro for ever. A revert
// to a release that is proven on the host passes it: what it leaves could not
// have come back more often. The zero value is the default.
type Budget struct {
	// Starts of one executable as a successor within Window are allowed;
	// default 5.
	Starts int
	// Window is how far back starts count; default 1 h.
	Window time.Duration
}

// start is one start of a successor.
type start struct {
	At     time.Time `json:"at"`
	From   string    `json:"from"` // versions, for people
	To     string    `json:"to"`
	Binary string    `json:"binary"`
}

// starts is the record of the latest starts of successors on a host.
type starts struct {
	Schema int     `json:"schema"`
	Starts []start `json:"starts"`
}

// readStarts returns an empty record beside an error: the record guards
// against loops, and must not keep a host from its cure.
func readStarts(stateDir string) (starts, error) {
	var s starts
	if _, err := readState(filepath.Join(stateDir, startsFile), startsLimit, startsSchema, &s); err != nil {
		return starts{}, err
	}
	return s, nil
}

// check returns ErrBudget if binary must not be started at now.
func (s starts) check(b Budget, ref Ref, now time.Time) error {
	count := 0
	var oldest time.Time
	for _, e := range s.Starts {
		if e.Binary != ref.Binary || now.Sub(e.At) >= b.Window || e.At.After(now) {
			continue
		}
		if count++; count == 1 {
			oldest = e.At
		}
	}
	if count < b.Starts {
		return nil
	}
	return fmt.Errorf("%w: %s was started %d times within %v: find out who asks for it again and again; it may be started again at %s, or by force",
		ErrBudget, ref.Version, count, b.Window, oldest.Add(b.Window).Format(time.RFC3339))
}

// add records a start, the oldest beyond the newest 100 being dropped.
func (s starts) add(stateDir string, e start) error {
	s.Schema, s.Starts = startsSchema, append(s.Starts, e)
	if len(s.Starts) > startsMax {
		s.Starts = s.Starts[len(s.Starts)-startsMax:]
	}
	return writeState(filepath.Join(stateDir, startsFile), s)
}

// withinBudget refuses a target that was started too often. A revert must not
// leave the host on what it is to be rid of.
func (u *Upgrader) withinBudget(r Request, target Slot) error {
	if r.Action == ActionRevert && !target.Proven.IsZero() {
		return nil
	}
	record, err := readStarts(u.cfg.StateDir)
	if err != nil {
		u.log.Warn("record of starts is not readable and counts as empty", "error", err)
	}
	return record.check(u.cfg.Budget, target.Ref, time.Now())
}

// countStart records that target is started next. Without it the budget is
// less strict, no more.
func (u *Upgrader) countStart(target Ref) {
	record, _ := readStarts(u.cfg.StateDir) // a damaged one begins anew
	err := record.add(u.cfg.StateDir, start{At: time.Now().UTC(), From: u.running.Version, To: target.Version, Binary: target.Binary})
	if err != nil {
		u.log.Warn("start not recorded", "error", err)
	}
}
