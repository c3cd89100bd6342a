package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release/oci"
)

// cosignKeys writes a key pair as openssl would: unencrypted.
func cosignKeys(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	open, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	private, public = filepath.Join(dir, "cosign.key"), filepath.Join(dir, "cosign.pub")
	for path, block := range map[string]*pem.Block{private: {Type: "PRIVATE KEY", Bytes: secret}, public: {Type: "PUBLIC KEY", Bytes: open}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return private, public
}

func TestAgentThatDemandsCosignRefusesWhatIsNotSigned(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	private, public := cosignKeys(t)
	layout := "oci-layout:" + filepath.Join(s.dir, "layout")
	agentd(t, "release", "push", "--repo", s.repo, layout).ok(t)
	s.start("--repo", layout, "--cosign-key", public)
	s.upgrade("1.1.0", "--repo", layout).fails(t, 1, "cosign", "1.1.0", "no bundle refers to the image")
	if files, err := filepath.Glob(filepath.Join(s.state, "download-*")); err != nil || len(files) > 0 {
		t.Errorf("it was downloaded: %v, %v", files, err)
	}
	r := agentd(t, "release", "push", "--repo", s.repo, "--trust", s.trust, "--cosign-key", private, layout, "-o", "json").ok(t)
	var pushed oci.Pushed
	if err := json.Unmarshal([]byte(r.stdout), &pushed); err != nil || len(pushed.Releases) != 2 || !pushed.Releases[1].Signed || pushed.Sequence != 2 {
		t.Errorf("pushed %+v, %v", pushed, err)
	}
	s.upgrade("1.1.0", "--repo", layout).ok(t)
	if i := s.mustInfo(); i.Version != "1.1.0" {
		t.Errorf("%s answers", i.Version)
	}
}

func TestDamageInALayoutIsFoundByVerifyAndMendedByPush(t *testing.T) {
	s := newSite(t)
	s.release("1.0.0")
	layout := "oci-layout:" + filepath.Join(s.dir, "layout")
	agentd(t, "release", "push", "--repo", s.repo, layout).ok(t)
	blobs, err := filepath.Glob(filepath.Join(s.repo, "blobs", "sha256", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("%v, %v", blobs, err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "layout", "blobs", "sha256", filepath.Base(blobs[0])), []byte("rotten"), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := []string{"release", "verify", "--repo", layout, "--trust", s.trust}
	agentd(t, verify...).fails(t, 1, "found 1")
	r := agentd(t, "release", "push", "--repo", s.repo, "--repair", layout, "-o", "json").ok(t)
	var pushed oci.Pushed
	if err := json.Unmarshal([]byte(r.stdout), &pushed); err != nil || pushed.Repaired != 1 {
		t.Errorf("pushed %+v, %v", pushed, err)
	}
	agentd(t, verify...).ok(t)
}

func TestPushAndCosignFlagsThatMakeNoSenseAreRefused(t *testing.T) {
	dir := t.TempDir()
	_, public := cosignKeys(t)
	pub := filepath.Join(dir, "keys", "release.pub")
	agentd(t, "keys", "generate", "--out", filepath.Join(dir, "keys")).ok(t)
	agentd(t, "release", "push", "--repo", dir, "/srv/x").fails(t, 2, "oci://host/repository")
	agentd(t, "release", "push", "--repo", dir, "oci://host/agentd:latest").fails(t, 1, "latest", "give the version")
	agentd(t, "release", "push", "--repo", dir, "oci-layout:"+filepath.Join(dir, "l")).fails(t, 1, "release build")
	agentd(t, "release", "push", "--repo", dir, "--cosign-key", public, "oci-layout:"+filepath.Join(dir, "l")).fails(t, 2, "--trust")
	agentd(t, "release", "push", "--repo", dir, "--trust", pub, "--cosign-key", public, "oci-layout:"+filepath.Join(dir, "l")).fails(t, 1, "cosign key", "PUBLIC KEY")
	agentd(t, "release", "build", "--key", filepath.Join(dir, "keys", "release.key"), "--repo", "oci://host/agentd", "--version", "1.0.0", binary(t, "1.0.0")).fails(t, 2, "release push")
	agentd(t, "run", "--id", "a", "--etcd", "http://127.0.0.1:1", "--state-dir", filepath.Join(dir, "s"), "--repo", dir, "--trust", pub, "--cosign-key", public).fails(t, 2, "--cosign-key", "oci://host/repository")
}
