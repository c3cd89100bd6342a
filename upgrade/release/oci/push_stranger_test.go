package oci

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
)

// changed is a repository whose publisher has changed from one key to another,
// beside the pin of the release by the first key. The fixture trusts the second.
func changed(t *testing.T) (f *fixture, first release.Trust, old, now release.Pin) {
	t.Helper()
	f = newFixture(t)
	old = f.publish("1.0.0")
	first = f.trust
	next := newFixture(t)
	f.key, f.trust = next.key, next.trust
	key, err := release.LoadPrivateKey(filepath.Join(f.key, release.PrivateKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	r, err := release.NewRepository(release.RepositoryConfig{PlainOnly: true, Dir: f.dir, Key: key, Trust: first})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(t.Context(), "agentd"); err != nil {
		t.Fatal(err)
	}
	return f, first, old, f.publish("1.1.0")
}

// A publisher who has changed keys could otherwise push nothing any more.
func TestReleasesByAnEarlierKeyDoNotEndThePush(t *testing.T) {
	t.Parallel()
	f, first, old, now := changed(t)
	to := Config{Location: schemeLayout + filepath.Join(t.TempDir(), "layout")}
	pushed := f.push(PushConfig{Target: to})
	says(t, errors.New(pushed.Releases[0].Refused), release.KeyID(first.Keys[0]), release.KeyID(f.trust.Keys[0]))
	if r := pushed.Releases[1]; r.Refused != "" {
		t.Errorf("%s by the key that counts is told as refused: %s", r.Version, r.Refused)
	}
	if _, err := f.fetch(source(t, to), now); err != nil {
		t.Error(err)
	}
	if _, err := f.fetch(source(t, to), old); !errors.Is(err, release.ErrUntrusted) {
		t.Errorf("a host takes the release by the other key: %v", err)
	}
	// cosign's key does not vouch for it, unless it is trusted as well.
	cfg := PushConfig{Dir: f.dir, Target: to, Key: newPrivateKey(t), Trust: f.trust, Name: "agentd"}
	_, err := Push(t.Context(), cfg)
	if !errors.Is(err, release.ErrUntrusted) {
		t.Errorf("%v, want %v", err, release.ErrUntrusted)
	}
	says(t, err, "1.0.0 is signed by key "+release.KeyID(first.Keys[0]), "--extend", "--trust", "yank 1.0.0")
	cfg.Trust.Keys = slices.Concat(first.Keys, f.trust.Keys)
	if pushed, err := Push(t.Context(), cfg); err != nil || pushed.Releases[0].Refused != "" || !pushed.Releases[0].Signed {
		t.Errorf("with both keys: %+v, %v", pushed, err)
	}
}

// Nobody's key is no other key: that a directory was tampered with must be seen
// by who pushes it, with a cosign key or without.
func TestReleasesThatNobodyHasSignedEndThePush(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spoil func(f *fixture, signature, other string) error
		says  string
	}{
		"unsigned": {func(_ *fixture, signature, _ string) error { return os.Remove(signature) }, "not signed"},
		"no signature": {func(f *fixture, signature, _ string) error {
			return os.WriteFile(signature, []byte("untrusted comment: none\n"), 0o600)
		}, "cannot be read"},
		"of another release": {func(_ *fixture, signature, other string) error {
			data, err := os.ReadFile(other)
			return errors.Join(err, os.WriteFile(signature, data, 0o600))
		}, "does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _, _, now := changed(t)
			other := f.publish("1.2.0")
			path := func(p release.Pin) string {
				return filepath.Join(f.dir, filepath.FromSlash(manifestDir), p.Digest[len(digestPrefix):]+".json"+signatureSuffix)
			}
			if err := tt.spoil(f, path(now), path(other)); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "layout")
			_, err := Push(t.Context(), PushConfig{Dir: f.dir, Target: Config{Location: schemeLayout + dir}, Trust: f.trust, Name: "agentd"})
			if !errors.Is(err, release.ErrUntrusted) {
				t.Errorf("%v, want %v", err, release.ErrUntrusted)
			}
			says(t, err, "1.1.0", tt.says)
			if _, err := os.Stat(dir); err == nil {
				t.Error("something was sent")
			}
		})
	}
}
