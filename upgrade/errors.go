package upgrade

import (
	"errors"
	"fmt"
)

// What callers branch on with errors.Is. Every error of this package that
// has one of these causes wraps it, and its text says what was wanted, what
// was found and what to do. Those about releases are in package release.
var (
	// ErrQuarantined: the release failed on this host before.
	ErrQuarantined = errors.New("release quarantined")
	// ErrHeld: the host is kept out of upgrades and rollbacks.
	ErrHeld = errors.New("host is held")
	// ErrBudget: the release was started here too often of late.
	ErrBudget = errors.New("budget of starts is spent")
	// ErrNotSupported: the platform cannot do this. It wraps
	// errors.ErrUnsupported.
	ErrNotSupported = fmt.Errorf("not supported on this platform: %w", errors.ErrUnsupported)
	// ErrLocked: another agent holds the state directory.
	ErrLocked = errors.New("locked by another process")
)
