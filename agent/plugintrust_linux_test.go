package agent

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade/release"
)

// newKey is a real key of minisign.
func newKey(t *testing.T) (minisign.PublicKey, minisign.PrivateKey) {
	t.Helper()
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

// publish makes a root sign the next keyring and a host accept it.
func publish(t *testing.T, ring *release.Keyring, root minisign.PrivateKey, trust release.Trust, repository, stateDir string) {
	t.Helper()
	document, err := ring.Issue(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := release.SignKeyring(document, root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := release.InstallKeyring(t.Context(), release.KeyringConfig{Dir: repository, Trust: trust}, document, signature); err != nil {
		t.Fatal(err)
	}
	source, err := release.NewSource(repository)
	if err != nil {
		t.Fatal(err)
	}
	client, err := release.NewClient(release.ClientConfig{Source: source, Trust: trust, Name: "agent", StateFile: filepath.Join(stateDir, "trust.json")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Keyring(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPluginCountsByTheKeysThatSignReleasesOfThisHost(t *testing.T) {
	public, private := newKey(t)
	rootPublic, root := newKey(t)
	_, stranger := newKey(t)
	ring, err := release.NewKeyring("agent")
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Add(release.KeyringKey{Key: public.String()}); err != nil {
		t.Fatal(err)
	}
	repository := t.TempDir()
	cfg := idle(t)
	cfg.Plugins = plugin.Config{Dir: t.TempDir(), RequireSigned: true}
	cfg.Upgrade.Trust = release.Trust{Roots: []minisign.PublicKey{rootPublic}, Threshold: 1}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	manifest := []byte("name: probe\n")
	verify := a.pluginConfig().Verify
	by := func(key minisign.PrivateKey) error {
		id, err := verify(manifest, release.Sign(key, manifest, "plugin probe"))
		if err == nil && id != release.KeyID(public) {
			t.Errorf("want the key %s named, found %s", release.KeyID(public), id)
		}
		return err
	}
	stops := func(err error) bool { return errors.Is(err, plugin.ErrUntrusted) }
	if err := by(private); err == nil || stops(err) {
		t.Errorf("before a keyring is known: want an error that stops nothing, found %v", err)
	}
	publish(t, ring, root, cfg.Upgrade.Trust, repository, cfg.StateDir)
	if err := by(private); err != nil {
		t.Errorf("a listed key: %v", err)
	}
	for name, key := range map[string]minisign.PrivateKey{"a stranger": stranger, "a root": root} {
		if err := by(key); err == nil || stops(err) {
			t.Errorf("%s: want an error that stops nothing, found %v", name, err)
		}
	}
	if err := ring.RevokeKey(public, "stolen", time.Now()); err != nil {
		t.Fatal(err)
	}
	other, _ := newKey(t)
	if err := ring.Add(release.KeyringKey{Key: other.String()}); err != nil {
		t.Fatal(err)
	}
	publish(t, ring, root, cfg.Upgrade.Trust, repository, cfg.StateDir)
	if err := by(private); !stops(err) || !strings.Contains(err.Error(), "stolen") {
		t.Errorf("a revoked key: want plugin.ErrUntrusted with the reason, found %v", err)
	}
	// A trust state that is damaged must not end every plugin of the host.
	if err := os.WriteFile(filepath.Join(cfg.StateDir, "trust.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := by(private); err == nil || stops(err) {
		t.Errorf("a damaged trust state: want an error that stops nothing, found %v", err)
	}
}

func TestSignedPluginsCannotBeDemandedWithoutAKey(t *testing.T) {
	cfg := idle(t)
	cfg.Plugins = plugin.Config{Dir: t.TempDir(), RequireSigned: true}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "RequireSigned needs Config.Verify") {
		t.Errorf("want it refused, found %v", err)
	}
}
