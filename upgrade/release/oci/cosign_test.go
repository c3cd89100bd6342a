package oci

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/cosign"
	"github.com/perennial-go/perennial/upgrade/release/cosign/cosignkey"
)

// The flags that keep cosign from any network but the registry.
var (
	signOffline   = []string{"sign", "--yes", "--tlog-upload=false", "--use-signing-config=false", "--allow-insecure-registry", "--allow-http-registry"} //nolint:gochecknoglobals // constants
	verifyOffline = []string{"verify", "--insecure-ignore-tlog=true", "--allow-insecure-registry", "--allow-http-registry"}                              //nolint:gochecknoglobals // constants
)

func loadKeys(t *testing.T, private, public string) (*cosign.PrivateKey, *cosign.PublicKey) {
	t.Helper()
	key, err := cosignkey.Load(private, []byte(cosignPassword))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := cosign.LoadPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key, pub
}

// required asks whether a host that demands a signature would take pin.
func (f *fixture) required(t *testing.T, cfg CosignConfig, pin release.Pin) error {
	t.Helper()
	r, err := RequireCosign(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := release.NewDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	m, _, _, err := f.client(dir).Manifest(t.Context(), pin)
	if err != nil {
		t.Fatal(err)
	}
	return r.Check(t.Context(), m, pin)
}

// registries are the places that the real cosign reads.
func registries() []place { return places()[1:] }

func TestRealCosignAcceptsOurSignature(t *testing.T) {
	t.Parallel()
	for _, p := range registries() {
		t.Run(p.name, func(t *testing.T) {
			private, public := cosignKeys(t)
			key, pub := loadKeys(t, private, public)
			location := p.location(t)
			f := newFixture(t)
			pin := f.publish("1.0.0")
			pushed := f.push(PushConfig{Target: Config{Location: location}, Key: key})
			if !pushed.Releases[0].Signed {
				t.Error("nothing was signed")
			}
			image := strings.TrimPrefix(location, schemeRegistry) + "@" + pushed.Releases[0].Image
			runCosign(t, t.TempDir(), append(verifyOffline, "--key", public, "-a", "org.opencontainers.image.version=1.0.0", image)...).ok(t)
			runCosign(t, t.TempDir(), append(verifyOffline, "--key", public, "--new-bundle-format=false", image)...).ok(t)
			if out := runCosign(t, t.TempDir(), append(verifyOffline, "--key", public, "-a", "org.opencontainers.image.version=2.0.0", image)...); out.err == nil {
				t.Errorf("cosign verify takes it for another version:\n%s", out.out)
			}
			_, foreign := cosignKeys(t)
			if out := runCosign(t, t.TempDir(), append(verifyOffline, "--key", foreign, image)...); out.err == nil {
				t.Errorf("cosign verify takes it by another key:\n%s", out.out)
			}
			if err := f.required(t, CosignConfig{Source: source(t, Config{Location: location}), Key: pub}, pin); err != nil {
				t.Errorf("our own requirement: %v", err)
			}
			if again := f.push(PushConfig{Target: Config{Location: location}, Key: key}); again.Releases[0].Signed || again.Sent != 0 {
				t.Errorf("signed again, %d blobs sent", again.Sent)
			}
		})
	}
}

func TestSignatureOfTheRealCosignIsAcceptedAndAnAttestationIsNot(t *testing.T) {
	t.Parallel()
	for _, p := range registries() {
		for form, flags := range map[string][]string{"bundle": nil, "payload": {"--new-bundle-format=false"}} {
			t.Run(p.name+", "+form, func(t *testing.T) {
				private, public := cosignKeys(t)
				_, pub := loadKeys(t, private, public)
				location := p.location(t)
				f := newFixture(t)
				pin := f.publish("1.0.0")
				pushed := f.push(PushConfig{Target: Config{Location: location}})
				cfg := CosignConfig{Source: source(t, Config{Location: location}), Key: pub}
				if err := f.required(t, cfg, pin); !errors.Is(err, release.ErrUntrusted) || !errors.Is(err, cosign.ErrSignature) {
					t.Errorf("unsigned: %v, want ErrUntrusted", err)
				}
				image := strings.TrimPrefix(location, schemeRegistry) + "@" + pushed.Releases[0].Image
				// An attestation by the same key, which cosign verify would take.
				predicate := filepath.Join(t.TempDir(), "predicate.json")
				overwrite(t, predicate, []byte(`{"tests":"failed"}`))
				runCosign(t, t.TempDir(), "attest", "--yes", "--tlog-upload=false", "--use-signing-config=false", "--allow-insecure-registry", "--allow-http-registry",
					"--key", private, "--type", "https://example.com/tests/v1", "--predicate", predicate, image).ok(t)
				if err := f.required(t, cfg, pin); !errors.Is(err, release.ErrUntrusted) || !strings.Contains(err.Error(), "attestation") {
					t.Errorf("attested only: %v, want it refused as an attestation", err)
				}
				runCosign(t, t.TempDir(), append(append(signOffline, flags...), "--key", private, image)...).ok(t)
				if err := f.required(t, cfg, pin); err != nil {
					t.Errorf("signed: %v", err)
				}
				cfg.Key = newPublicKey(t)
				if err := f.required(t, cfg, pin); !errors.Is(err, release.ErrUntrusted) || !strings.Contains(err.Error(), "another key") {
					t.Errorf("by another key: %v, want ErrUntrusted", err)
				}
			})
		}
	}
}

func newPublicKey(t *testing.T) *cosign.PublicKey { return newPrivateKey(t).Public() }

func TestLayoutCarriesSignatures(t *testing.T) {
	key := newPrivateKey(t)
	dir := filepath.Join(t.TempDir(), "layout")
	f := newFixture(t)
	pin := f.publish("1.0.0")
	cfg := CosignConfig{Source: source(t, Config{Location: schemeLayout + dir}), Key: key.Public()}
	f.push(PushConfig{Target: Config{Location: schemeLayout + dir}})
	if err := f.required(t, cfg, pin); !errors.Is(err, release.ErrUntrusted) {
		t.Errorf("unsigned: %v, want ErrUntrusted", err)
	}
	f.push(PushConfig{Target: Config{Location: schemeLayout + dir}, Key: key})
	if err := f.required(t, cfg, pin); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.required(t, cfg, pin); err == nil || errors.Is(err, cosign.ErrSignature) {
		t.Errorf("layout gone: %v, want an error that is no verdict on a signature", err)
	}
}
