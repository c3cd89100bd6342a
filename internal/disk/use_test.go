package disk

import (
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"testing"
)

func TestDiskIsAsFullAsWhatRunsOutFirst(t *testing.T) {
	for name, c := range map[string]struct {
		use     Use
		percent float64
		basis   string
	}{
		"bytes":     {Use{Used: 3 << 30, Usable: 4 << 30, Files: 1, FilesUsable: 10}, 75, "3.0 of 4.0 GiB"},
		"inodes":    {Use{Used: 1 << 30, Usable: 4 << 30, Files: 9, FilesUsable: 10}, 90, "9 of 10 inodes"},
		"no inodes": {Use{Used: 1 << 30, Usable: 4 << 30}, 25, "1.0 of 4.0 GiB"},
		"nothing":   {Use{}, 0, "0.0 of 0.0 GiB"},
		"huge":      {Use{Used: math.MaxUint64, Usable: math.MaxUint64}, 100, "17179869184.0 of 17179869184.0 GiB"},
	} {
		if p, b := c.use.Percent(), c.use.Basis(); p != c.percent || b != c.basis {
			t.Errorf("%s: %v %% of %q, want %v %% of %q", name, p, b, c.percent, c.basis)
		}
	}
}

func TestUseIsOfTheFileSystemOfThePath(t *testing.T) {
	u, err := UseOf(t.TempDir())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil || u.Usable == 0 || u.Used > u.Usable {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err = UseOf(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of what does not exist: %v, want fs.ErrNotExist", err)
	}
}
