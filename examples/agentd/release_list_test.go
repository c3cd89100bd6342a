package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnreadableManifestIsAWordInTheListAndALineBelowIt(t *testing.T) {
	s := newShelf(t, "1.0.0", "1.1.0")
	manifests, err := filepath.Glob(filepath.Join(s.repo, "manifests", "sha256", "*.json"))
	if err != nil || len(manifests) != 2 {
		t.Fatalf("%q, %v", manifests, err)
	}
	for _, path := range manifests {
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := s.ask("list").ok(t)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if len(lines) != 6 {
		t.Fatalf("want a table of three lines, two reasons and the index, found\n%s", r.stdout)
	}
	for i, version := range []string{"1.0.0", "1.1.0"} {
		if row := lines[1+i]; !strings.HasPrefix(row, version) || !strings.Contains(row, " UNREADABLE ") || len(row) > 80 {
			t.Errorf("the row of %s is %q", version, row)
		}
		if why := lines[3+i]; !strings.HasPrefix(why, version+" is UNREADABLE: ") || !strings.Contains(why, "the repository is damaged or altered") {
			t.Errorf("the reason of %s is %q", version, why)
		}
	}
}
