package upgrade

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// A fleet pays for what has changed: the second release is made of the first
// one, and a rollback and a third one do not disturb that.
func TestUpgradeMovesWhatHasChanged(t *testing.T) {
	t.Parallel()
	r := prepareRig(t, 200*time.Millisecond, nil)
	publish := func(version string, plain bool) (release.Pin, string) {
		repository, err := release.NewRepository(release.RepositoryConfig{Dir: r.env.Repository, Key: r.key, PlainOnly: plain})
		if err != nil {
			t.Fatal(err)
		}
		path := makeBinary(r, build{Version: version})
		pin, err := repository.Publish(t.Context(), release.Release{Name: "demo", Version: version, DeltaFrom: 1, Binaries: []release.Binary{{Path: path}}})
		if err != nil {
			t.Fatal(err)
		}
		return pin, path
	}
	// Nobody downloads the first one, and compressing it would take long here.
	_, first := publish("1.0.0", true)
	pin, path := publish("1.1.0", false)
	r.start(first)
	r.Cleanup(r.stop)
	r.ask(pin)
	if s := r.ends("1.1.0"); s.State != Committed {
		t.Fatalf("%s: %s", s.State, s.Reason)
	}
	log, err := os.ReadFile(r.log)
	if err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile(`release downloaded.* name="?zstd from [0-9a-f]{12}"? bytes=([0-9]+) total=([0-9]+)`).FindSubmatch(log)
	if told == nil {
		t.Fatalf("no delta was taken:\n%s", log)
	}
	bytes, _ := strconv.Atoi(string(told[1]))
	size, _ := strconv.Atoi(string(told[2]))
	if info, err := os.Stat(path); err != nil || int64(size) != info.Size() || bytes > size/100 {
		t.Errorf("%d of %d bytes were moved, want 1 %% at most", bytes, size)
	}
	left, err := filepath.Glob(filepath.Join(r.env.StateDir, downloadPrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
