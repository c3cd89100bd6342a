package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// expire puts a keyring that both roots have signed, and that expired
// yesterday, into the repository and beside it.
func (v *vault) expire() {
	v.t.Helper()
	v.keys("create", "--add", v.file("release.pub")).ok(v.t)
	k, err := release.ParseKeyring(v.read("keyring.json"))
	if err != nil {
		v.t.Fatal(err)
	}
	k.Issued = time.Time{} // else the next one is not issued before it
	document, err := k.Issue(time.Now().Add(-48*time.Hour), 24*time.Hour)
	if err != nil {
		v.t.Fatal(err)
	}
	v.write("keyring.json", document)
	v.write("repo/keyring.json", document)
	for _, root := range []string{"root-1", "root-2"} {
		v.keys("sign", "--key", v.file(root+".key")).ok(v.t)
		name := "keyring.json." + v.id(root) + signatureSuffix
		v.write("repo/"+name, v.read(name))
	}
}

func TestExpiredKeyringIsListedAsWhatItIs(t *testing.T) {
	v := newVault(t)
	if err := os.Mkdir(v.repo, 0o700); err != nil {
		t.Fatal(err)
	}
	v.expire()
	roots := []string{"--trust-roots", v.file("roots.pub"), "--trust-threshold", "2"}
	for name, where := range map[string][]string{
		"repository":               append([]string{"--repo", v.repo}, roots...),
		"file":                     append([]string{"--keyring", v.keyring}, roots...),
		"file of an unknown vault": {"--keyring", v.keyring},
	} {
		t.Run(name, func(t *testing.T) {
			list := append([]string{"keys", "list"}, where...)
			r := agentd(t, list...)
			if r.fails(t, 1, "expired"); !strings.Contains(r.stdout, v.id("release")) || !strings.Contains(r.stdout, "EXPIRED at ") {
				t.Errorf("it lists\n%s", r.stdout)
			}
			r = agentd(t, append(list, "-o", "json")...)
			r.fails(t, 1, "expired")
			var view keyringView
			if err := json.Unmarshal([]byte(r.stdout), &view); err != nil || !view.Expired || len(view.Keyring.Keys) != 1 {
				t.Errorf("as JSON %+v, %v", view, err)
			}
		})
	}
	// One that is not trusted is not shown.
	v.write("other.pub", v.read("next.pub"))
	r := agentd(t, "keys", "list", "--repo", v.repo, "--trust-roots", v.file("other.pub"))
	if r.fails(t, 1, "not trusted"); r.stdout != "" {
		t.Errorf("it lists\n%s", r.stdout)
	}
}

func TestRootKeyThatCannotBeReadIsNotCalledAReleaseKey(t *testing.T) {
	v := newVault(t)
	v.keys("create", "--add", v.file("release.pub")).ok(t)
	for _, file := range []string{"none.key", "root-1.pub"} {
		r := v.keys("sign", "--key", v.file(file))
		if r.fails(t, 1, "private key"); strings.Contains(r.stderr, "release key") {
			t.Errorf("it says %s", r.stderr)
		}
	}
}
