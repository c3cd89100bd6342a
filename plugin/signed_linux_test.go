package plugin_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/perennial-go/perennial/plugin"
)

// signer is a publisher with a key of minisign, and a host that trusts it.
type signer struct {
	public  minisign.PublicKey
	private minisign.PrivateKey
	// revoked is what the host has heard; blind keeps it from telling.
	revoked, blind atomic.Bool
}

func newSigner(tb testing.TB) *signer {
	tb.Helper()
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return &signer{public: public, private: private}
}

func (s *signer) id() string { return fmt.Sprintf("%016X", s.public.ID()) }

func (s *signer) sign(manifest []byte) ([]byte, error) {
	return minisign.Sign(s.private, manifest), nil
}

// verify is the host's plugin.Config.Verify.
func (s *signer) verify(manifest, signature []byte) (string, error) {
	switch {
	case s.blind.Load():
		return "", errors.New("the keys cannot be read")
	case !minisign.Verify(s.public, manifest, signature):
		return "", errors.New("not by the key that is trusted")
	case s.revoked.Load():
		return "", fmt.Errorf("%w: the key %s was revoked", plugin.ErrUntrusted, s.id())
	}
	return s.id(), nil
}

func (s *signer) install(tb testing.TB, dir string, what spec) plugin.Manifest {
	tb.Helper()
	m, err := plugin.InstallSigned(dir, build(tb, what), manifest(what), s.sign)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// demand makes a host that wants signatures by s.
func (s *signer) demand(c *plugin.Config) { c.Verify, c.RequireSigned = s.verify, true }

func TestPluginThatIsNotSignedAsTheHostWantsIsRefused(t *testing.T) {
	t.Parallel()
	key, other := newSigner(t), newSigner(t)
	file := func(dir, name, suffix string) string { return filepath.Join(dir, name+plugin.ManifestSuffix+suffix) }
	edit := func(t *testing.T, path string, change func([]byte) []byte) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	cases := map[string]struct {
		lay  func(t *testing.T, name string)
		says string
	}{
		"unsigned": {func(t *testing.T, name string) { install(t, dir, spec{Name: name, Version: "1.0.0"}) },
			"there is no unsigned.plugin.yaml.minisig, and this host wants signed plugins"},
		"unknown-key": {func(t *testing.T, name string) { other.install(t, dir, spec{Name: name, Version: "1.0.0"}) },
			"not by the key that is trusted"},
		"changed-after-signing": {func(t *testing.T, name string) {
			key.install(t, dir, spec{Name: name, Version: "1.0.0"})
			edit(t, file(dir, name, ""), func(b []byte) []byte { return append(b, "# more\n"...) })
		}, "not by the key that is trusted"},
		"no-manifest-at-all-but-signed": {func(t *testing.T, name string) {
			key.install(t, dir, spec{Name: name, Version: "1.0.0"})
			text := []byte("{{{")
			signature, _ := key.sign(text)
			edit(t, file(dir, name, ""), func([]byte) []byte { return text })
			edit(t, file(dir, name, plugin.SignatureSuffix), func([]byte) []byte { return signature })
		}, "bad plugin manifest"},
		// A good signature must not be good for another plugin.
		"signed-for-another": {func(t *testing.T, name string) {
			source := t.TempDir()
			key.install(t, source, spec{Name: "original", Version: "1.0.0"})
			for _, suffix := range []string{"", plugin.ManifestSuffix, plugin.ManifestSuffix + plugin.SignatureSuffix} {
				if err := os.Rename(filepath.Join(source, "original"+suffix), filepath.Join(dir, name+suffix)); err != nil {
					t.Fatal(err)
				}
			}
		}, `name: want "signed-for-another", as the file is called, found "original"`},
		"signed-version-differs": {func(t *testing.T, name string) {
			key.install(t, dir, spec{Name: name, Version: "2.0.0", Report: "1.0.0"})
		}, `the manifest says signed-version-differs 2.0.0, the executable says "signed-version-differs" "1.0.0"`},
		"signed-digest-differs": {func(t *testing.T, name string) {
			key.install(t, dir, spec{Name: name, Version: "1.0.0"})
			edit(t, filepath.Join(dir, name), func(b []byte) []byte { return append(b, ' ') })
		}, "plugin digest differs"},
		"signature-too-large": {func(t *testing.T, name string) {
			key.install(t, dir, spec{Name: name, Version: "1.0.0"})
			edit(t, file(dir, name, plugin.SignatureSuffix), func(b []byte) []byte { return append(b, bytes.Repeat([]byte("x"), 20<<10)...) })
		}, "want at most 16384 bytes"},
		"signature-others-can-write": {func(t *testing.T, name string) {
			key.install(t, dir, spec{Name: name, Version: "1.0.0"})
			if err := os.Chmod(file(dir, name, plugin.SignatureSuffix), 0o666); err != nil { //nolint:gosec // the point of the case
				t.Fatal(err)
			}
		}, "everybody can write to it"},
	}
	for name, c := range cases {
		c.lay(t, name)
	}
	key.install(t, dir, spec{Name: "good", Version: "1.0.0"})
	h := startHost(t, dir, key.demand)
	if s := h.awaitState(t, "good", plugin.Running); s.Signed != key.id() {
		t.Errorf("want it signed by %s, found %+v", key.id(), s)
	}
	for name, c := range cases {
		if s := h.awaitState(t, name, plugin.Refused); !strings.Contains(s.Reason, c.says) || s.Signed != "" && name != "signed-version-differs" {
			t.Errorf("%s: want it refused with %q, found %+v", name, c.says, s)
		}
	}
}

func TestNothingIsParsedBeforeItsSignature(t *testing.T) {
	t.Parallel()
	key, dir := newSigner(t), t.TempDir()
	key.install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	if err := os.WriteFile(filepath.Join(dir, "probe"+plugin.ManifestSuffix), []byte("{{{"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := startHost(t, dir, key.demand)
	if s := h.awaitState(t, "probe", plugin.Refused); strings.Contains(s.Reason, "YAML") || !strings.Contains(s.Reason, "not by the key") {
		t.Errorf("want the signature named and nothing of the content, found %s", s.Reason)
	}
}

func TestUnsignedPluginRunsWhereNoneMustBeButABadSignatureNever(t *testing.T) {
	t.Parallel()
	key, dir := newSigner(t), t.TempDir()
	install(t, dir, spec{Name: "unsigned", Version: "1.0.0"})
	newSigner(t).install(t, dir, spec{Name: "bad", Version: "1.0.0"})
	h := startHost(t, dir, func(c *plugin.Config) { c.Verify = key.verify })
	if s := h.awaitState(t, "unsigned", plugin.Running); s.Signed != "" {
		t.Errorf("found %+v", s)
	}
	h.awaitState(t, "bad", plugin.Refused)
}

func TestBadlySignedNewGenerationLeavesTheOldInCharge(t *testing.T) {
	t.Parallel()
	key, dir := newSigner(t), t.TempDir()
	key.install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	h := startHost(t, dir, key.demand)
	old := h.awaitState(t, "probe", plugin.Running)
	newSigner(t).install(t, dir, spec{Name: "probe", Version: "1.1.0"})
	s := h.await(t, "probe", "telling of it", func(s plugin.Status) bool { return strings.Contains(s.Reason, "not by the key") })
	if s.PID != old.PID || s.State != plugin.Running || s.Version != "1.0.0" {
		t.Errorf("found %+v", s)
	}
	key.install(t, dir, spec{Name: "probe", Version: "1.2.0"})
	h.awaitVersion(t, "probe", "1.2.0")
}

func TestPluginOfAKeyThatIsRevokedIsStopped(t *testing.T) {
	t.Parallel()
	key, dir := newSigner(t), t.TempDir()
	key.install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	h := startHost(t, dir, func(c *plugin.Config) {
		key.demand(c)
		c.ScanEvery = 50 * time.Millisecond
	})
	first := h.awaitState(t, "probe", plugin.Running)
	key.revoked.Store(true)
	s := h.awaitState(t, "probe", plugin.Refused)
	if !strings.Contains(s.Reason, "was revoked") || s.Exceptions == 0 || !strings.Contains(s.LastError, "was revoked") {
		t.Errorf("found %+v", s)
	}
	awaitGone(t, first.PID)
	// The files need not be touched for it to be tried again.
	key.revoked.Store(false)
	h.awaitState(t, "probe", plugin.Running)
}

func TestPluginKeepsRunningWhileKeysCannotBeRead(t *testing.T) {
	t.Parallel()
	key, dir := newSigner(t), t.TempDir()
	key.install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	var judged atomic.Int64
	h := startHost(t, dir, func(c *plugin.Config) {
		key.demand(c)
		c.ScanEvery = 50 * time.Millisecond
		c.Verify = func(manifest, signature []byte) (string, error) {
			defer judged.Add(1)
			return key.verify(manifest, signature)
		}
	})
	first := h.awaitState(t, "probe", plugin.Running)
	key.blind.Store(true)
	seen := judged.Load()
	h.await(t, "probe", "judged again and again", func(plugin.Status) bool { return judged.Load() > seen+3 })
	if s := h.status("probe"); s.State != plugin.Running || s.PID != first.PID {
		t.Errorf("found %+v", s)
	}
}
