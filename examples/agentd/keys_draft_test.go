package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyringOfALiveRepositoryIsNotReplacedByADraft(t *testing.T) {
	v := newVault(t)
	v.keys("create", "--add", v.file("release.pub")).ok(t)
	v.sign()
	live := filepath.Join(v.repo, "keyring.json")
	before, err := os.ReadDir(v.repo)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range map[string][]string{
		"rotate": {"rotate", "--keyring", live, "--add", v.file("next.pub")},
		"revoke": {"revoke", "--keyring", live, "--reason", "stolen", v.id("release")},
		"renew":  {"renew", "--keyring", live},
	} {
		agentd(t, append([]string{"keys"}, args...)...).fails(t, 1, "work on a copy")
	}
	after, err := os.ReadDir(v.repo)
	if err != nil || len(after) != len(before) {
		t.Errorf("the repository holds %v (%v), before %v", after, err, before)
	}
	if view := v.list(); view.Keyring.Sequence != 1 {
		t.Errorf("installed is %+v", view.Keyring)
	}
	// As the sentence says.
	document, err := os.ReadFile(live)
	if err != nil {
		t.Fatal(err)
	}
	v.write("keyring.json", document)
	v.keys("renew").ok(t)
}

// Ids can be made to be the same; what a root signs is the key.
func TestRootIsShownTheKeysThatItSigns(t *testing.T) {
	v := newVault(t)
	v.keys("create", "--add", v.file("release.pub")).ok(t)
	lines := strings.Split(strings.TrimSpace(string(v.read("release.pub"))), "\n")
	key := lines[len(lines)-1]
	for command, args := range map[string][]string{"sign": {"--key", v.file("root-1.key")}, "list": nil} {
		if r := v.keys(command, args...).ok(t); !strings.Contains(r.stdout, key) {
			t.Errorf("keys %s does not show %s:\n%s", command, key, r.stdout)
		}
	}
}
