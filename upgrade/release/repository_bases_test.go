package release

import (
	"strings"
	"testing"
)

// The builds of every day do not use up the deltas that the fleet needs.
func TestPreReleasesAreBasesOfPreReleasesOnly(t *testing.T) {
	x := &Index{}
	for _, v := range []string{"1.0.0", "1.1.0", "1.1.1-dev.1", "1.1.1-dev.2", "1.2.0-rc.1", "1.2.0-rc.2"} {
		x.Releases = append(x.Releases, IndexEntry{Version: v})
	}
	x.Releases[5].Yanked = "it crashes"
	for version, want := range map[string]string{
		"1.2.0":       "1.1.0 1.0.0",
		"1.2.0-rc.3":  "1.2.0-rc.2 1.2.0-rc.1 1.1.1-dev.2",
		"1.1.1-dev.2": "1.1.1-dev.1 1.1.0",
	} {
		bases, err := x.bases(Release{Version: version, DeltaFrom: 2})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, b := range bases {
			got = append(got, b.Version)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s gets deltas from %q, want %s", version, got, want)
		}
	}
}
