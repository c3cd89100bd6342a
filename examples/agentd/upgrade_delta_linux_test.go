package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// TestUpgradeMovesWhatHasChanged: of a release that differs from the running one in
// its version alone, a delta is downloaded.
func TestUpgradeMovesWhatHasChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0") // nobody downloads it
	agentd(t, "release", "build", "--delta-from", "1", "--key", s.key, "--repo", s.repo, "--version", "1.1.0", binary(t, "1.1.0")).ok(t)
	p := s.start()
	s.upgrade("1.1.0").ok(t)
	told := regexp.MustCompile(`release downloaded.* name="?(?:zstd|bsdiff) from [0-9a-f]{12}"? bytes=([0-9]+) total=([0-9]+)`).FindStringSubmatch(p.logged())
	if told == nil {
		t.Fatalf("no delta was taken:\n%s", p.logged())
	}
	bytes, _ := strconv.ParseInt(told[1], 10, 64)
	size, _ := strconv.ParseInt(told[2], 10, 64)
	if info, err := os.Stat(binary(t, "1.1.0")); err != nil || size != info.Size() || bytes > size/100 {
		t.Errorf("%d of %d bytes were moved, want 1 %% at most", bytes, size)
	}
	left, err := filepath.Glob(filepath.Join(s.state, "download-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
