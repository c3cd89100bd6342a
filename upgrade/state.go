package upgrade

import (
	"fmt"
	"slices"
)

// State is where one attempt to change the running release stands. States
// are persisted in the journal and reported in the registry, so their
// strings never change meaning.
type State string

// The states of an attempt, in the order of a successful one.
const (
	Idle        State = "idle"
	Requested   State = "requested"
	Downloading State = "downloading"
	Verifying   State = "verifying"
	Staged      State = "staged"
	Starting    State = "starting"
	Probation   State = "probation"
	Committing  State = "committing"
	Committed   State = "committed"
	RollingBack State = "rolling_back"
	RolledBack  State = "rolled_back"
	Failed      State = "failed"
)

// successors lists the states that may follow s; nil for an unknown state.
func (s State) successors() []State {
	switch s {
	case Idle, Committed, RolledBack, Failed:
		// The boot guard gives a release up whatever happened last.
		return []State{Requested, RollingBack}
	case Requested:
		// A slot that is there already needs no download, and what runs
		// already needs nothing.
		return []State{Downloading, Staged, Committed, Failed}
	case Downloading:
		return []State{Verifying, Failed}
	case Verifying:
		return []State{Staged, Failed}
	case Staged:
		// Staged again: the reason why it waits has changed. Committed where no more
		// was asked for.
		return []State{Staged, Starting, Committed, Failed}
	case Starting:
		return []State{Probation, RollingBack, Failed}
	case Probation:
		return []State{Committing, RollingBack, Failed}
	case Committing:
		return []State{Committed, RollingBack, Failed}
	case RollingBack:
		return []State{RolledBack, Failed}
	default:
		return nil
	}
}

// Valid reports whether s is a state this library knows.
func (s State) Valid() bool { return s.successors() != nil }

// Terminal reports whether an attempt in s has ended.
func (s State) Terminal() bool {
	return s == Committed || s == RolledBack || s == Failed
}

// transition returns an error unless to may follow from.
func transition(from, to State) error {
	if !from.Valid() || !to.Valid() {
		return fmt.Errorf("unknown upgrade state in %q → %q: a newer agent wrote it, or the journal is damaged", from, to)
	}
	if !slices.Contains(from.successors(), to) {
		return fmt.Errorf("upgrade state %q cannot follow %q", to, from)
	}
	return nil
}
