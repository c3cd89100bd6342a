package upgrade

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
)

// A download that was interrupted takes the rest of its room only.
func TestDownloadThatIsResumedNeedsRoomForTheRestAlone(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		size int64
		want error
	}{
		"nothing there":           {"other", 4 << 20, release.ErrNoSpace},
		"most of it there":        {"download-x.unverified", 4 << 20, nil},
		"all of it there":         {"download-x", 6 << 20, nil},
		"more than all of it":     {"download-x", 7 << 20, nil},
		"of another, and no room": {"download-y.unverified", 4 << 20, release.ErrNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			dir := mounted(t, 0, "size=12m")
			if err := os.WriteFile(filepath.Join(dir, c.file), make([]byte, c.size), 0o600); err != nil {
				t.Fatal(err)
			}
			u := &Upgrader{slots: slots{dir}}
			if err := u.preflight(6<<20, filepath.Join(dir, "download-x")); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}
