package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is allowed and hardly ever meant is said before the roots sign it.
func TestKeyringThatNoHostCanUseIsWarnedOf(t *testing.T) {
	v := newVault(t)
	warns := func(r result, says string) {
		t.Helper()
		if r.ok(t); strings.Contains(r.stderr, "WARNING") != (says != "") || !strings.Contains(r.stderr, says) {
			t.Errorf("want the warning %q, found\n%s", says, r.stderr)
		}
	}
	warns(v.keys("create", "--add", v.file("release.pub"), "--not-after", "2001-02-03T04:05:06Z"), "--not-after 2001-02-03T04:05:06Z is in the past")
	if err := os.Remove(v.keyring); err != nil {
		t.Fatal(err)
	}
	warns(v.keys("create", "--add", v.file("release.pub")), "")
	warns(v.keys("revoke", "--reason", "x", v.file("root-1.pub")), "lists no key "+v.id("root-1"))
	warns(v.keys("rotate", "--add", v.file("next.pub")), "")
	warns(v.keys("revoke", "--reason", "x", v.id("release")), "")
	warns(v.keys("revoke", "--reason", "x", v.id("next")), "no key of this keyring signs any more")
}

func TestVerifyOfADamagedIndexSaysThatThereIsNone(t *testing.T) {
	s := newShelf(t, "1.0.0")
	if err := os.WriteFile(filepath.Join(s.repo, "index.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.ask("verify")
	if r.fails(t, 1, "without damage"); !strings.Contains(r.stdout, "agentd: no index that can be read and trusted") || strings.Contains(r.stdout, "index 0") {
		t.Errorf("it says\n%s", r.stdout)
	}
	if r := s.ask("verify", "-o", "json"); r.code != 1 || strings.Contains(r.stdout, "0001-01-01") || strings.Contains(r.stdout, "\"index\"") {
		t.Errorf("as JSON, code %d\n%s", r.code, r.stdout)
	}
}
