package release

import (
	"errors"
	"strings"
	"testing"
)

// TestLookAtTheWrongPlaceSaysSo: an absent repository reads as one without a
// keyring, and keys as roots that were left out.
func TestLookAtTheWrongPlaceSaysSo(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	nowhere, err := NewDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for says, c := range map[string]*Client{
		"check that this is the repository and its address right (--repo)": r.hostOf(nowhere, rootTrust(t)),
		"give these (Trust.Roots, --trust-roots) in place of the keys":     r.hostOf(r.source(), fixtureTrust(t, 1)),
	} {
		if _, err := c.Keyring(t.Context()); err == nil || !strings.Contains(err.Error(), says) || !errors.Is(err, ErrUntrusted) && !errors.Is(err, ErrNotFound) {
			t.Errorf("%v, want an error that says %q", err, says)
		}
	}
}
