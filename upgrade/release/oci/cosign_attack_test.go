package oci

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/cosign"
)

func newPrivateKey(t *testing.T) *cosign.PrivateKey {
	t.Helper()
	raw, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cosign.NewPrivateKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// elsewhere lets a layout sign for a repository of a registry.
type elsewhere struct {
	*layout
	name string
}

func (e elsewhere) repository() string { return e.name }

// signAs signs an image of the layout in both forms for repository.
func signAs(t *testing.T, dir string, key *cosign.PrivateKey, image ocispec.Descriptor, s cosign.Subject, payload, bundle bool) {
	t.Helper()
	l, err := newLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	p := &push{cfg: PushConfig{Key: key}, target: elsewhere{l, s.Repositories[0]}, done: map[string]bool{}}
	if payload {
		err = p.signPayload(t.Context(), s)
	}
	if bundle && err == nil {
		err = p.signBundle(t.Context(), s, image)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// payloadOf returns the digest of the payload that signs image.
func payloadOf(t *testing.T, dir string, image ocispec.Descriptor) string {
	t.Helper()
	l, err := newLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := payloads(t.Context(), l, string(image.Digest))
	if err != nil {
		t.Fatal(err)
	}
	return string(m.Layers[0].Digest)
}

func TestCosignRequirementIsNotDeceived(t *testing.T) {
	type scene struct {
		f          *fixture
		dir        string
		key        *cosign.PrivateKey
		old, pin   release.Pin
		oldImage   ocispec.Descriptor
		image      ocispec.Descriptor
		repository string
		meddle     func(w http.ResponseWriter, r *http.Request, rest string) bool
	}
	subject := func(s *scene) cosign.Subject {
		return cosign.Subject{Digest: string(s.image.Digest), Repositories: []string{s.repository}}
	}
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, s *scene)
		says string
	}{
		{"", func(t *testing.T, s *scene) { signAs(t, s.dir, s.key, s.image, subject(s), true, false) }, ""},
		{"unsigned", func(*testing.T, *scene) {}, "release push --cosign-key"},
		{"signature of another repository copied over", func(t *testing.T, s *scene) {
			sub := subject(s)
			sub.Repositories = []string{"registry.example.com/dev/agentd"}
			signAs(t, s.dir, s.key, s.image, sub, true, false)
		}, "copied from another repository"},
		{"signature of another release copied over", func(t *testing.T, s *scene) {
			sub := subject(s)
			sub.Digest = string(s.oldImage.Digest)
			signAs(t, s.dir, s.key, s.image, sub, false, true)
		}, "belongs to another image"},
		{"signature for another version", func(t *testing.T, s *scene) {
			sub := subject(s)
			sub.Annotations = identity("agentd", "9.9.9", s.pin.Digest)
			signAs(t, s.dir, s.key, s.image, sub, true, true)
		}, "9.9.9"},
		{"signed image of an older release in place of the newer", func(t *testing.T, s *scene) {
			sub := subject(s)
			sub.Digest = string(s.oldImage.Digest)
			signAs(t, s.dir, s.key, s.oldImage, sub, false, true)
			forge(t, s.dir, nil, func(x *ocispec.Index) {
				for i, d := range x.Manifests {
					if d.Annotations[AnnotationManifest] == s.pin.Digest {
						x.Manifests[i].Digest, x.Manifests[i].Size = s.oldImage.Digest, s.oldImage.Size
					}
				}
			})
		}, "answers with another release"},
		{"registry that hides the image", func(t *testing.T, s *scene) {
			forge(t, s.dir, nil, func(x *ocispec.Index) { x.Manifests = x.Manifests[:1] })
		}, "has no image for"},
		{"signature by another key", func(t *testing.T, s *scene) {
			signAs(t, s.dir, newPrivateKey(t), s.image, subject(s), true, true)
		}, "by another key"},
		{"endless payload", func(t *testing.T, s *scene) {
			signAs(t, s.dir, s.key, s.image, subject(s), true, false)
			payload := "blobs/" + payloadOf(t, s.dir, s.image)
			s.meddle = func(w http.ResponseWriter, _ *http.Request, rest string) bool {
				if rest == payload {
					endless(t, w)
				}
				return rest == payload
			}
		}, "more than"},
		{"oversized bundle", func(t *testing.T, s *scene) {
			sub := subject(s)
			sub.Annotations = map[string]string{"filler": strings.Repeat("x", cosign.MaxBundleSize)}
			signAs(t, s.dir, s.key, s.image, sub, false, true)
		}, "at most"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &scene{f: newFixture(t), key: newPrivateKey(t), dir: filepath.Join(t.TempDir(), "layout")}
			s.old, s.pin = s.f.publish("1.0.0"), s.f.publish("1.1.0")
			s.f.push(PushConfig{Target: Config{Location: schemeLayout + s.dir}})
			now, err := source(t, Config{Location: schemeLayout + s.dir}).snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.oldImage, s.image = now.images[s.old.Digest], now.images[s.pin.Digest]
			location := serveHostile(t, hostile(s.dir, func(w http.ResponseWriter, r *http.Request, rest string) bool {
				return s.meddle != nil && s.meddle(w, r, rest)
			}))
			s.repository = strings.TrimPrefix(location, schemeRegistry)
			tt.do(t, s)
			err = s.f.required(t, CosignConfig{Source: source(t, Config{Location: location}), Key: s.key.Public()}, s.pin)
			if tt.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			says(t, err, tt.says)
			if !errors.Is(err, release.ErrUntrusted) {
				t.Errorf("error %v, want ErrUntrusted", err)
			}
		})
	}
}
