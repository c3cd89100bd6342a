package main

import (
	"strings"
	"testing"
)

func TestRevocationTellsWhichKeyItIsAboutWhereThatIsKnown(t *testing.T) {
	v := newVault(t)
	v.keys("create", "--add", v.file("release.pub")).ok(t)
	lines := strings.Split(strings.TrimSpace(string(v.read("release.pub"))), "\n")
	key := lines[len(lines)-1]
	if r := v.keys("revoke", "--reason", "stolen", v.id("release")).ok(t); !strings.Contains(r.stdout, "revoked key "+v.id("release")+" is "+key) {
		t.Errorf("a listed key, by its id:\n%s", r.stdout)
	}
	if r := v.keys("revoke", "--reason", "stolen", v.id("next")).ok(t); !strings.Contains(r.stdout, "known by its id alone") {
		t.Errorf("a key that is not listed, by its id:\n%s", r.stdout)
	}
	v.keys("revoke", "--reason", "stolen", v.file("next.pub")).ok(t)
	if r := v.keys("list").ok(t); strings.Contains(r.stdout, "by its id alone") || strings.Count(r.stdout, v.id("next")+" is RW") != 1 {
		t.Errorf("that key, by its file:\n%s", r.stdout)
	}
}
