package upgrade

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/perennial-go/perennial/upgrade/release"
)

// keyholder holds three root keys, of which two must sign, and the keyring.
type keyholder struct {
	*rig
	roots []minisign.PrivateKey
	trust release.Trust
	ring  *release.Keyring
}

func newKeyholder(t *testing.T, r *rig) *keyholder {
	t.Helper()
	k := &keyholder{rig: r, trust: release.Trust{Threshold: 2}}
	for range 3 {
		public, private := newKey(t)
		k.roots, k.trust.Roots = append(k.roots, private), append(k.trust.Roots, public)
		r.env.Roots = append(r.env.Roots, public.String())
	}
	var err error
	if k.ring, err = release.NewKeyring("demo"); err != nil {
		t.Fatal(err)
	}
	return k
}

func newKey(t *testing.T) (minisign.PublicKey, minisign.PrivateKey) {
	t.Helper()
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

// roll has two roots sign the next keyring, and installs it.
func (k *keyholder) roll() {
	k.Helper()
	document, err := k.ring.Issue(time.Now(), time.Hour)
	if err != nil {
		k.Fatal(err)
	}
	var signatures [][]byte
	for _, root := range k.roots[:2] {
		signature, err := release.SignKeyring(document, root)
		if err != nil {
			k.Fatal(err)
		}
		signatures = append(signatures, signature)
	}
	cfg := release.KeyringConfig{Dir: k.env.Repository, Trust: k.trust}
	if _, err := release.InstallKeyring(k.Context(), cfg, document, signatures...); err != nil {
		k.Fatal(err)
	}
}

func (k *keyholder) add(key minisign.PublicKey) {
	k.Helper()
	if err := k.ring.Add(release.KeyringKey{Key: key.String()}); err != nil {
		k.Fatal(err)
	}
}

// signWith makes key the one that signs releases.
func (k *keyholder) signWith(key minisign.PrivateKey, extend ...minisign.PublicKey) {
	k.Helper()
	trust := k.trust
	trust.Keys = extend
	repo, err := release.NewRepository(release.RepositoryConfig{Dir: k.env.Repository, Key: key, Trust: trust, PlainOnly: true})
	if err != nil {
		k.Fatal(err)
	}
	k.repo = repo
}

func TestKeysAreRotatedAndRevokedUnderARunningAgent(t *testing.T) {
	t.Parallel()
	r := prepareRig(t, 100*time.Millisecond, nil)
	k := newKeyholder(t, r)
	publicA, keyA := newKey(t)
	publicB, keyB := newKey(t)
	k.add(publicA)
	k.roll()
	r.first(build{Version: "1.0.0"})
	k.signWith(keyA)
	r.commits(build{Version: "1.1.0"})
	onlyA := r.publish(build{Version: "1.1.1"})

	k.add(publicB)
	if err := k.ring.Revoke(release.KeyID(publicA), "stolen", time.Now()); err != nil {
		t.Fatal(err)
	}
	k.roll()
	// The publisher has looked at the index by A, and takes it over.
	k.signWith(keyB, publicA)
	r.commits(build{Version: "1.2.0"})

	r.askAs(onlyA, "only-a")
	if s := r.ends("only-a"); s.State != Failed || !strings.Contains(s.Reason, "key revoked") || !strings.Contains(s.Reason, release.KeyID(publicA)) || !strings.Contains(s.Reason, "stolen") {
		t.Errorf("a release that a revoked key has signed: %+v", s.Attempt)
	}
	r.serves("1.2.0")

	// No repository, and the slot is of the revoked key: what ran here and was
	// good is what a host can always go back to.
	if err := os.RemoveAll(r.env.Repository); err != nil {
		t.Fatal(err)
	}
	r.request(Request{ID: "back", Action: ActionRollback, Pin: release.Pin{Version: "1.1.0"}})
	if s := r.ends("back"); s.State != Committed || s.Running.Version != "1.1.0" {
		t.Errorf("rollback to the slot of a revoked key without a repository: %+v", s.Attempt)
	}
	r.serves("1.1.0")
}

func TestRunningAgentKeepsARevocationThatTheMirrorWithholds(t *testing.T) {
	t.Parallel()
	r := prepareRig(t, 100*time.Millisecond, nil)
	k := newKeyholder(t, r)
	publicA, keyA := newKey(t)
	publicB, keyB := newKey(t)
	k.add(publicA)
	k.add(publicB)
	k.roll()
	r.first(build{Version: "1.0.0"})
	k.signWith(keyA)
	stolen := r.publish(build{Version: "1.3.0"})
	mirror := t.TempDir()
	if err := os.CopyFS(mirror, os.DirFS(r.env.Repository)); err != nil {
		t.Fatal(err)
	}
	k.signWith(keyB)
	if err := k.ring.Revoke(release.KeyID(publicA), "stolen", time.Now()); err != nil {
		t.Fatal(err)
	}
	pin := r.publish(build{Version: "1.1.0"}) // B extends A's index while A counts
	k.roll()
	r.ask(pin)
	if s := r.ends("1.1.0"); s.State != Committed {
		t.Fatalf("%+v", s.Attempt)
	}
	r.serves("1.1.0")

	for name, lose := range map[string]func(){
		"an older keyring": func() {},
		"no keyring": func() {
			for _, path := range []string{"/keyring.json", "/keyrings"} {
				if err := os.RemoveAll(r.env.Repository + path); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		if err := os.RemoveAll(r.env.Repository); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(r.env.Repository, os.DirFS(mirror)); err != nil {
			t.Fatal(err)
		}
		lose()
		id := strings.ReplaceAll(name, " ", "-")
		r.askAs(stolen, id)
		want := map[string]string{"an older keyring": "older document replayed", "no keyring": "key revoked"}[name]
		if s := r.ends(id); s.State != Failed || !strings.Contains(s.Reason, want) {
			t.Errorf("%s served to the successor: %+v, want a failure that says %q", name, s.Attempt, want)
		}
	}
	r.serves("1.1.0")
}
