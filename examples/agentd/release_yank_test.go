package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestYankThatChangesNothingSaysSoAndWritesNoIndex(t *testing.T) {
	s := newShelf(t, "1.0.0", "1.1.0")
	index := func() string {
		data, err := os.ReadFile(filepath.Join(s.repo, "index.json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, step := range []struct {
		args    []string
		says    string
		changes bool
	}{
		{[]string{"--undo", "1.1.0"}, "agentd 1.1.0 is not withdrawn, nothing was changed", false},
		{[]string{"--reason", "loses records", "1.1.0"}, "withdrew agentd 1.1.0", true},
		{[]string{"--reason", "loses records", "1.1.0"}, "agentd 1.1.0 is withdrawn already (loses records), nothing was changed", false},
		{[]string{"--reason", "loses records", "1.1.0", "-o", "json"}, "\"changed\": false", false},
		{[]string{"--reason", "loses them all", "1.1.0"}, "was withdrawn already (loses records): the reason is now: loses them all", true},
		{[]string{"--undo", "1.1.0", "-o", "json"}, "\"changed\": true", true},
		{[]string{"--undo", "1.1.0"}, "is not withdrawn", false},
	} {
		before := index()
		if r := s.publish("yank", step.args...).ok(t); !strings.Contains(r.stdout, step.says) {
			t.Errorf("yank %q says %q, want %q", step.args, r.stdout, step.says)
		}
		if changed := index() != before; changed != step.changes {
			t.Errorf("yank %q: index changed %v, want %v", step.args, changed, step.changes)
		}
	}
	s.publish("yank", "--undo", "9.9.9").fails(t, 1, "9.9.9", "nearest")
}
