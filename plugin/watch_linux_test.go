package plugin_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// The hosts of these tests look by themselves once an hour, unless a test says
// otherwise: what they find in time, the system has told them.

func TestDirectoryThatIsReplacedIsWatchedAnew(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "plugins")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	h := startHost(t, dir, nil)
	h.awaitVersion(t, "probe", "1.0.0")
	next := filepath.Join(parent, "next")
	if err := os.Mkdir(next, 0o755); err != nil {
		t.Fatal(err)
	}
	install(t, next, spec{Name: "probe", Version: "1.1.0"})
	if err := os.Rename(dir, filepath.Join(parent, "before")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, dir); err != nil {
		t.Fatal(err)
	}
	h.awaitVersion(t, "probe", "1.1.0")
	// The new one is watched, not the old one under its new name.
	install(t, dir, spec{Name: "probe", Version: "1.2.0"})
	h.awaitVersion(t, "probe", "1.2.0")
	// A directory that comes back is the one that was watched, and is not any more.
	if err := os.Rename(dir, next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, dir); err != nil {
		t.Fatal(err)
	}
	install(t, dir, spec{Name: "probe", Version: "1.3.0"})
	h.awaitVersion(t, "probe", "1.3.0")
	install(t, dir, spec{Name: "probe", Version: "1.4.0"})
	h.awaitVersion(t, "probe", "1.4.0")
}

func TestChangeThatTheSystemDoesNotTellIsFoundByTheSlowLook(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "plugins")
	for _, version := range []string{"1.0.0", "1.1.0"} {
		if err := os.Mkdir(filepath.Join(parent, version), 0o755); err != nil {
			t.Fatal(err)
		}
		install(t, filepath.Join(parent, version), spec{Name: "probe", Version: version})
	}
	point := func(version string) {
		t.Helper()
		if err := os.Symlink(version, dir+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir+".new", dir); err != nil {
			t.Fatal(err)
		}
	}
	point("1.0.0")
	h := startHost(t, dir, func(c *plugin.Config) { c.ScanEvery = 100 * time.Millisecond })
	h.awaitVersion(t, "probe", "1.0.0")
	point("1.1.0") // nothing happens in the directory that is watched
	h.awaitVersion(t, "probe", "1.1.0")
}

func TestCopyInManyWritesIsJudgedAFewTimes(t *testing.T) {
	t.Parallel()
	key := newSigner(t)
	var judged atomic.Int64
	h, _ := startProbe(t, func(c *plugin.Config) {
		c.Verify = func(manifest, signature []byte) (string, error) {
			judged.Add(1)
			return key.verify(manifest, signature)
		}
	})
	key.install(t, h.dir, spec{Name: "other", Version: "1.0.0"})
	h.awaitState(t, "other", plugin.Running)
	before := judged.Load()
	path := filepath.Join(h.dir, "other"+plugin.ManifestSuffix)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	writes := 0
	for began := time.Now(); time.Since(began) < 500*time.Millisecond; writes++ {
		if _, err := f.WriteAt([]byte("#"), fi.Size()); err != nil {
			t.Fatal(err)
		}
	}
	waittest.Until(t, "the change is judged", func() bool { return judged.Load() > before })
	h.await(t, "other", "kept", func(s plugin.Status) bool { return s.State == plugin.Running && s.Reason != "" })
	if n := judged.Load() - before; n > 5 {
		t.Errorf("%d writes were judged %d times", writes, n)
	}
}
