package upgrade

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/internal/ownership"
)

const (
	holdFile   = "hold.json"
	holdSchema = 1
	holdLimit  = 64 << 10
)

// Hold is a host's own word against being changed: while there is one, its
// upgrader refuses every upgrade and rollback, whoever asks. The boot guard
// is not held: a release that does not start is given up all the same.
type Hold struct {
	Schema int `json:"schema"`
	// By is who held it, Reason why; both are for people.
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// SetHold holds the host of a state directory, also while its agent runs,
// which sees it within its HealthEvery. Schema and Since are filled in.
func SetHold(stateDir string, h Hold) error {
	if err := ownership.Check(stateDir); err != nil {
		return err
	}
	h.Schema, h.Since = holdSchema, time.Now().UTC()
	if err := writeState(filepath.Join(stateDir, holdFile), h); err != nil {
		return fmt.Errorf("hold cannot be written: %w", err)
	}
	return nil
}

// ClearHold ends the hold of a state directory; without one it does nothing.
func ClearHold(stateDir string) error {
	return removeState(filepath.Join(stateDir, holdFile))
}

// ReadHold returns the hold of a state directory, nil if there is none. A
// file that cannot be understood is an error: it may be a newer release's
// word to keep out.
func ReadHold(stateDir string) (*Hold, error) {
	var h Hold
	found, err := readState(filepath.Join(stateDir, holdFile), holdLimit, holdSchema, &h)
	if err != nil {
		return nil, fmt.Errorf("%w; remove the file to end the hold", err)
	}
	if !found {
		return nil, nil //nolint:nilnil // the absence of a hold is no error
	}
	return &h, nil
}

// held returns ErrHeld with what the hold says, nil without one.
func held(stateDir string) error {
	h, err := ReadHold(stateDir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHeld, err)
	}
	if h == nil {
		return nil
	}
	by, reason := h.By, h.Reason
	if by == "" {
		by = "somebody"
	}
	if reason == "" {
		reason = "no reason was given"
	}
	return fmt.Errorf("%w by %s since %s (%s): end the hold first", ErrHeld, by, h.Since.Format(time.RFC3339), reason)
}
