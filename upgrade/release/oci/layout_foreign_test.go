package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/upgrade/release"
)

func TestWhatOtherToolsPutIntoALayoutHidesNoSignature(t *testing.T) {
	key := newPrivateKey(t)
	dir := filepath.Join(t.TempDir(), "layout")
	f := newFixture(t)
	pin := f.publish("1.0.0")
	f.push(PushConfig{Target: Config{Location: schemeLayout + dir}, Key: key})
	damaged := []byte("not what it is named")
	absent := strings.Repeat("ab", 32)
	f.write(filepath.Join(dir, "blobs", "sha256", absent), damaged)
	foreign := []ocispec.Descriptor{
		{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:" + digest.Digest(strings.Repeat("cd", 32)), Size: 500},
		{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:" + digest.Digest(absent), Size: int64(len(damaged))},
		{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha512:" + digest.Digest(strings.Repeat("ef", 64)), Size: 500},
	}
	list := filepath.Join(dir, ocispec.ImageIndexFile)
	var x ocispec.Index
	raw, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &x); err != nil {
		t.Fatal(err)
	}
	x.Manifests = append(foreign, x.Manifests...)
	if raw, err = json.Marshal(x); err != nil {
		t.Fatal(err)
	}
	f.write(list, raw)
	if err := f.required(t, CosignConfig{Source: source(t, Config{Location: schemeLayout + dir}), Key: key.Public()}, pin); err != nil {
		t.Error(err)
	}
	f.publish("1.1.0")
	f.push(PushConfig{Target: Config{Location: schemeLayout + dir}, Key: key})
	if raw, err = os.ReadFile(list); err != nil || strings.Count(string(raw), "sha512:") != 1 {
		t.Errorf("what was another tool's is gone: %v\n%s", err, raw)
	}
}

// release.OpenSource takes schemes in any case, and so must this package: a
// location that it does not know for its own is read as something else.
func TestSchemeInCapitalsIsTheSameLocation(t *testing.T) {
	for upper, want := range map[string]string{
		"OCI://registry.example.com/agentd": "oci://registry.example.com/agentd",
		"Oci+Http://127.0.0.1:5000/agentd":  "oci+http://127.0.0.1:5000/agentd",
		"OCI-Layout:/srv/Releases":          "oci-layout:/srv/Releases",
	} {
		got, err := NewSource(upper)
		if !IsLocation(upper) || err != nil {
			t.Errorf("%s: %v", upper, err)
			continue
		}
		if same, err := NewSource(want); err != nil || got.String() != same.String() {
			t.Errorf("%s is %s, %v", upper, got, err)
		}
	}
	if IsLocation("ocean") || IsLocation("https://x/oci://y") {
		t.Error("what is none of them is taken for one")
	}
	if _, err := release.NewSource("HTTPS://example.com/agentd"); err != nil {
		t.Error(err)
	}
}
