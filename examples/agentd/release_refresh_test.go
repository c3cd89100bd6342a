package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

func TestValidityOfTheIndexIsWhatWasAskedFor(t *testing.T) {
	s := newShelf(t, "1.0.0")
	lasts := func(what string, want time.Duration, more ...string) {
		t.Helper()
		r := s.publish("refresh", append(more, "-o", "json")...).ok(t)
		var told struct {
			Name string
			release.IndexState
		}
		if err := json.Unmarshal([]byte(r.stdout), &told); err != nil || told.Name != "agentd" || told.Sequence < 2 || told.Expires.Sub(told.Issued) != want {
			t.Errorf("%s: %v, %+v of\n%s", what, err, told, r.stdout)
		}
	}
	lasts("refreshed", 90*24*time.Hour)
	lasts("refreshed for two hours", 2*time.Hour, "--validity", "2h")
	if r := s.publish("refresh", "--validity", "3h").ok(t); !strings.Contains(r.stdout, "index 4, expires ") || !strings.Contains(r.stdout, "(in 3 h)") {
		t.Errorf("it says %q", r.stdout)
	}
	s.publish("yank", "--reason", "x", "--validity", "4h", "1.0.0").ok(t)
	if r := s.ask("list").ok(t); !strings.Contains(r.stdout, "(in 4 h)") {
		t.Errorf("after a yank:\n%s", r.stdout)
	}
	s.publish("refresh", "--validity", "-3s").fails(t, 2, "--validity")
	agentd(t, "keys", "create", "--keyring", filepath.Join(s.dir, "keyring.json"), "--add", s.trust, "--validity", "-3s").fails(t, 2, "--validity")
}

func TestRefreshOfAMistypedPathMakesNothing(t *testing.T) {
	s := newShelf(t)
	s.repo = filepath.Join(s.dir, "mistyped")
	s.publish("refresh").fails(t, 1, "want a repository in "+s.repo)
	s.publish("yank", "--reason", "x", "1.0.0").fails(t, 1, "not found")
	if _, err := os.Stat(s.repo); err == nil {
		t.Error("the directory was made")
	}
}

func TestPullAndListTellAllAsJSON(t *testing.T) {
	s := newShelf(t, "1.0.0")
	cache := filepath.Join(s.dir, "cache")
	var pulled struct {
		Name, Asked, Reference, Cache string
		Pin                           release.Pin
	}
	r := s.ask("pull", "--cache", cache, "-o", "json", "^1.0.0").ok(t)
	if err := json.Unmarshal([]byte(r.stdout), &pulled); err != nil || pulled.Asked != "^1.0.0" || pulled.Cache != cache || pulled.Pin.Version != "1.0.0" || pulled.Reference != pulled.Pin.String() {
		t.Errorf("%v, %+v of\n%s", err, pulled, r.stdout)
	}
	var listed struct{ Details []release.Description }
	r = s.ask("list", "-o", "json").ok(t)
	if err := json.Unmarshal([]byte(r.stdout), &listed); err != nil || len(listed.Details) != 1 || listed.Details[0].Manifest == nil || listed.Details[0].Manifest.Platforms[0].Size == 0 || listed.Details[0].Manifest.Created.IsZero() {
		t.Errorf("%v, %+v of\n%s", err, listed, r.stdout)
	}
}
