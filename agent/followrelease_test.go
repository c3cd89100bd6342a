package agent

import (
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// A fleet that has staged a release switches at once: who waits there a while, so
// that not all ask the repository together, is late for nothing.
func TestStagedReleaseIsThereForAPlan(t *testing.T) {
	t.Parallel()
	pin := release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("ab", 32)}
	wanted := upgrade.Ref{Version: pin.Version, Manifest: pin.Digest}
	other := upgrade.Ref{Version: pin.Version, Manifest: "sha256:" + strings.Repeat("cd", 32)}
	order := rollout.Order{Action: rollout.ActSwitch, Target: rollout.Target{Release: pin}}
	for name, c := range map[string]struct {
		status upgrade.Status
		there  bool
	}{
		"nothing":            {upgrade.Status{}, false},
		"staged":             {upgrade.Status{Staged: &wanted}, true},
		"another is staged":  {upgrade.Status{Staged: &other}, false},
		"retained":           {upgrade.Status{Retained: []upgrade.Ref{other, wanted}}, true},
		"what runs is other": {upgrade.Status{Running: other}, false},
	} {
		if got := there(order, c.status); got != c.there {
			t.Errorf("%s: %v", name, got)
		}
	}
}
