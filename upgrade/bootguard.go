package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/internal/failpoint"
)

const (
	bootsFile   = "boots.json"
	bootsSchema = 1
	bootsLimit  = 64 << 10
	// bootsMax is how many cold starts in a row a release has to become
	// healthy.
	bootsMax = 3
	// bootVariable tells an executable that its start was counted by the
	// one that executed it.
	bootVariable = "PERENNIAL_BOOT"
	// ByBootGuard is the Attempt.By of a release that was given up at a start.
	ByBootGuard = "boot guard"
)

// boots counts the cold starts of a release that have not reached health. It
// is on disk before the release is executed, so that neither a crash before
// main nor a power cut goes uncounted.
type boots struct {
	Schema int `json:"schema"`
	// Slot is the name of the slot that is started.
	Slot   string    `json:"slot"`
	Starts int       `json:"starts"`
	Since  time.Time `json:"since"`
}

// readBoots takes a record that cannot be read for none: the guard must not
// keep an agent from starting.
func readBoots(stateDir string) boots {
	var b boots
	if _, err := readState(filepath.Join(stateDir, bootsFile), bootsLimit, bootsSchema, &b); err != nil {
		return boots{}
	}
	return b
}

// of is how often the slot called name was started in a row.
func (b boots) of(name string) int {
	if b.Slot != name {
		return 0
	}
	return b.Starts
}

func (b boots) write(stateDir string) error {
	b.Schema = bootsSchema
	return writeState(filepath.Join(stateDir, bootsFile), b)
}

// choice is what a cold start is about to run.
type choice struct {
	slot Slot
	// here is true where this process is that release, adopt where it is an
	// executable outside the slots that becomes current once it serves.
	here, adopt bool
}

// guard counts the start of c, or gives c up for another release after three
// starts in a row without health.
func (u *Upgrader) guard(c choice, exe string) (choice, error) {
	u.unsettled = true
	counted := os.Getenv(bootVariable) == c.slot.Name()
	if err := os.Unsetenv(bootVariable); err != nil || counted {
		return c, err
	}
	record := readBoots(u.cfg.StateDir)
	starts := record.of(c.slot.Name())
	if starts >= bootsMax {
		other, err := u.abandon(c, exe, record)
		if err != nil {
			// It may still start this time; nothing else would.
			u.log.Error("a release that does not start could not be given up", "release", c.slot.Version, "count", starts, "error", err)
		} else {
			c, starts = other, 0
		}
	}
	if starts == 0 {
		record = boots{Slot: c.slot.Name(), Since: time.Now().UTC()}
	}
	record.Starts = starts + 1
	if err := record.write(u.cfg.StateDir); err != nil {
		// A full disk must not keep the agent from starting.
		u.log.Error("this start could not be counted", "error", err)
	}
	return c, failpoint.Hit("boot-counted")
}

// abandon makes another release current than c, which was started three
// times and never became healthy. The quarantine comes first, so that no
// crash lets the release return; the journal's rolling_back comes before the
// pointer moves and is ended by the release that then starts.
func (u *Upgrader) abandon(c choice, exe string, record boots) (choice, error) {
	next, err := u.fallback(c, exe)
	if err != nil {
		return c, err
	}
	reason := fmt.Sprintf("given up: it was started %d times since %s and never became healthy", record.Starts, record.Since.Format(time.RFC3339))
	u.log.Error("release given up", "release", c.slot.Version, "to", next.slot.Version, "reason", reason)
	// A disk that the release has filled must not keep it: what can be written
	// is, and next is started in any case.
	now := time.Now().UTC()
	u.found(RollingBack)
	err = errors.Join(
		u.quarantine.add(c.slot.Ref, BadBinary, reason, now),
		failpoint.Hit("abandon-quarantined"),
		u.journal.abandon(Attempt{By: ByBootGuard, Action: ActionRollback, From: next.slot.Ref, To: c.slot.Ref, Reason: reason, Class: BadBinary, Started: now, Traceparent: u.journal.last.traceOf(c.slot.Ref)}),
		u.revert())
	if err != nil {
		u.attemptLog().Error("what was given up could not all be recorded", "error", err)
	}
	return next, nil // it ends the attempt when it starts
}

// fallback finds what to start instead of c: the release that is current
// where c was only about to be adopted, else the newest retained one, else
// the executable that was installed, which has come as far as here.
func (u *Upgrader) fallback(c choice, exe string) (choice, error) {
	if c.adopt {
		cur, err := u.slots.current()
		return choice{slot: cur}, err
	}
	complete, _, err := u.slots.list()
	if err != nil {
		return c, err
	}
	var best *Slot
	for i, slot := range complete {
		// A quarantine that cannot be read excludes nothing here: what is left
		// does not start for certain.
		out := errors.Is(u.quarantine.check(slot.Ref, time.Now()), ErrQuarantined)
		if out || slot.Name() == c.slot.Name() || slot.Proven.IsZero() {
			continue
		}
		if (best == nil || slot.retiredAfter(*best)) && slot.verify() == nil {
			best = &complete[i]
		}
	}
	if best != nil {
		name, _ := u.slots.slotOf(exe)
		return choice{slot: *best, here: name == best.Name()}, nil
	}
	if _, inside := u.slots.slotOf(exe); inside || c.here {
		return c, errors.New("no other release is retained: start the installed executable, or install a newer one")
	}
	ref, err := u.installed(exe)
	if err != nil {
		return c, err
	}
	slot, err := u.slots.adopt(exe, ref)
	return choice{slot: slot, here: true}, err
}

// settle ends the count of starts once the host program has been healthy for
// a whole probation, apart from what depends on the world outside: a release
// is not to blame for an outage.
func (u *Upgrader) settle(failing []string, now time.Time) {
	for _, check := range failing {
		if !failsIn(check, u.cfg.External) {
			u.healthy = time.Time{}
			return
		}
	}
	if u.healthy.IsZero() {
		u.healthy = now
	}
	if now.Sub(u.healthy) < u.cfg.Probation {
		return
	}
	if err := removeState(filepath.Join(u.cfg.StateDir, bootsFile)); err != nil {
		u.log.Warn("the count of starts could not be ended", "error", err)
	}
	u.unsettled = false
}

// Excuse takes the count of this start back where what ends it is not the
// release's doing, such as another agent with its id. Close does so where the
// agent is told to stop within StartTimeout, or while it is healthy. Call it
// before Close, from the goroutine that does.
func (u *Upgrader) Excuse() {
	late := time.Since(u.opened) > u.cfg.StartTimeout
	if !u.unsettled || (late && u.healthy.IsZero()) {
		return
	}
	record := readBoots(u.cfg.StateDir)
	if record.of(u.running.Name()) == 0 {
		return
	}
	record.Starts--
	if err := record.write(u.cfg.StateDir); err != nil {
		u.log.Warn("the count of starts could not be corrected", "error", err)
	}
}
