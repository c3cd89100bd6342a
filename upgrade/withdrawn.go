package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/perennial-go/perennial/upgrade/release"
)

const (
	withdrawnFile   = "withdrawn.json"
	withdrawnSchema = 1
	withdrawnLimit  = 1 << 20
)

// Withdrawn is a release on this host, running or retained, that its publisher
// has withdrawn, as the last look at the index found.
type Withdrawn struct {
	Ref
	// Reason is why, in the publisher's words.
	Reason string `json:"reason"`
}

// withdrawals are what a host knows to be withdrawn of what it has. They are on
// disk, since a rollback needs no network.
type withdrawals struct {
	Schema   int         `json:"schema"`
	Releases []Withdrawn `json:"releases"`
}

// memory is what a process in charge knows of withdrawals and revoked keys.
type memory struct {
	known   []Withdrawn
	unsaved bool   // known is not on disk
	unknown error  // why known cannot be told
	yanked  string // why what runs was withdrawn
	revoked []release.RevokedKey
}

// readWithdrawn returns an error for a file that cannot be understood: what it
// has lost may be the release that is asked for.
func readWithdrawn(stateDir string) ([]Withdrawn, error) {
	var w withdrawals
	if _, err := readState(filepath.Join(stateDir, withdrawnFile), withdrawnLimit, withdrawnSchema, &w); err != nil {
		return nil, fmt.Errorf("%w; the next look at the index writes it anew", err)
	}
	return w.Releases, nil
}

func writeWithdrawn(stateDir string, all []Withdrawn) error {
	path := filepath.Join(stateDir, withdrawnFile)
	if len(all) == 0 {
		return removeState(path)
	}
	return writeState(path, withdrawals{withdrawnSchema, all})
}

// withdrawnOf returns why ref was withdrawn, "" if that is not known.
func withdrawnOf(all []Withdrawn, ref Ref) string {
	for _, w := range all {
		if w.Ref == ref {
			return cmp.Or(w.Reason, noReason)
		}
	}
	return ""
}

const noReason = "no reason was given"

// note takes down which releases of this host the index that was accepted last
// calls withdrawn. One that it does not list stays what it was: a repository
// that was begun anew takes nothing back. A disk that cannot be written costs
// the next start this, and is tried again at the next look.
func (u *Upgrader) note() {
	if u.client == nil {
		return
	}
	x := u.client.Accepted()
	if x == nil {
		return
	}
	complete, _, err := u.slots.list()
	if err != nil {
		u.log.Warn("slots are not readable, so that it is not noted which are withdrawn", "error", err)
		return
	}
	refs := []Ref{u.running.Ref} // it may have no slot yet
	for _, slot := range complete {
		refs = append(refs, slot.Ref)
	}
	var now []Withdrawn
	for i, ref := range refs {
		why, listed := withdrawn(x, ref)
		if !listed {
			why = withdrawnOf(u.known, ref)
		}
		if why != "" && !slices.Contains(refs[:i], ref) {
			now = append(now, Withdrawn{ref, why})
		}
	}
	if u.unknown == nil && !u.unsaved && slices.Equal(now, u.known) {
		return
	}
	u.known, u.unknown = now, nil
	err = writeWithdrawn(u.cfg.StateDir, now)
	if u.unsaved = err != nil; u.unsaved {
		u.log.Warn("which releases are withdrawn could not be saved", "error", err)
	}
}

// recall reads what was noted by the process before this one.
func (u *Upgrader) recall() {
	if u.known, u.unknown = readWithdrawn(u.cfg.StateDir); u.unknown != nil {
		u.log.Warn("which releases are withdrawn cannot be read", "error", u.unknown)
	}
	u.yanked = withdrawnOf(u.known, u.running.Ref)
	u.hearRevoked()
}

// backTo is a rollback that is about to be made.
type backTo struct {
	request Request
	slot    Slot
	known   []Withdrawn
	unknown error // why it is not known what is withdrawn
	rule    RemoteRollback
}

// allowed refuses the rollback to a release that is known to be withdrawn,
// unless r asks for just that and may. It returns what to add to the rule by
// which the release is let in.
func (b backTo) allowed(retained []Ref) (rule string, err error) {
	why := withdrawnOf(b.known, b.slot.Ref)
	may := b.request.AllowWithdrawn && (!b.request.Remote || b.rule == RemoteRollbackAny)
	switch {
	case b.unknown != nil && !may:
		return "", fmt.Errorf("it is not known whether %s is withdrawn: %w; ask again then, or on the host itself with --allow-withdrawn", b.slot.Version, b.unknown)
	case why == "":
		return "", nil
	case may:
		return fmt.Sprintf("; withdrawn by its publisher (%s), which was expressly allowed", why), nil
	}
	advice := "ask again with --allow-withdrawn"
	if b.request.Remote && b.rule != RemoteRollbackAny {
		advice = fmt.Sprintf("ask with --allow-withdrawn on the host itself, which takes no such order from outside (--remote-rollback %s)", b.rule)
	}
	return "", fmt.Errorf("%w: %s was withdrawn by its publisher (%s): %s, or, if it must be this one, %s", release.ErrYanked, b.slot.Version, why, b.others(retained), advice)
}

// others says where a rollback could go instead.
func (b backTo) others(retained []Ref) string {
	var offered []string
	for _, ref := range retained {
		if ref != b.slot.Ref && withdrawnOf(b.known, ref) == "" {
			offered = append(offered, ref.Version)
		}
	}
	if len(offered) == 0 {
		return "no other release is retained; upgrade to a newer one"
	}
	return "go back to " + strings.Join(offered, " or ") + ", retained and not withdrawn"
}

// present keeps what is about releases that are still here.
func present(known []Withdrawn, here ...Ref) (all []Withdrawn) {
	for _, w := range known {
		if slices.Contains(here, w.Ref) {
			all = append(all, w)
		}
	}
	return all
}

// errNotRollback refuses a permission that nobody would ask about.
var errNotRollback = errors.New("allow_withdrawn is about a rollback alone: leave it out")
