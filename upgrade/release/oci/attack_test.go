package oci

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/upgrade/release"
)

func TestWhatAHostileRegistryAnswersIsRefused(t *testing.T) {
	f, dir := pushedLayout(t)
	pin := f.publish("1.0.0") // the same again: its pin
	m, _, _, err := f.client(source(t, Config{Location: schemeLayout + dir})).Manifest(t.Context(), pin)
	if err != nil {
		t.Fatal(err)
	}
	here, err := m.Here()
	if err != nil {
		t.Fatal(err)
	}
	binary := "blobs/sha256:" + here.SHA256
	pinnedManifest := func(rest string) bool { return strings.HasPrefix(rest, "manifests/sha256:") }
	byTag := func(rest string) bool { return rest == "manifests/"+Tag }
	for _, tt := range []struct {
		name   string
		on     func(rest string) bool
		answer func(w http.ResponseWriter, rest string)
		want   error
		says   string
	}{
		{"registry that answers another digest for a manifest", pinnedManifest, func(w http.ResponseWriter, _ string) {
			_, _ = io.WriteString(w, `{"schemaVersion":2}`)
		}, release.ErrDigest, "was asked for sha256:"},
		{"registry that answers another binary of that size", func(rest string) bool { return rest == binary }, func(w http.ResponseWriter, _ string) {
			_, _ = w.Write(bytes.Repeat([]byte("x"), int(here.Size)))
		}, release.ErrDigest, "signed is sha256:" + here.SHA256},
		{"registry that answers a longer binary", func(rest string) bool { return rest == binary }, func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Length", strconv.FormatInt(here.Size+1, 10))
			_, _ = w.Write(make([]byte, here.Size+1))
		}, release.ErrDigest, "signed are"},
		{"endless binary", func(rest string) bool { return rest == binary }, func(w http.ResponseWriter, _ string) { endless(t, w) }, release.ErrDigest, "signed is"},
		{"endless file", func(rest string) bool {
			return strings.HasPrefix(rest, "blobs/") && rest != binary && !strings.HasSuffix(rest, strings.TrimPrefix(pin.Digest, digestPrefix))
		}, func(w http.ResponseWriter, _ string) { endless(t, w) }, nil, "more than"},
		{"endless manifest", byTag, func(w http.ResponseWriter, _ string) { endless(t, w) }, boundedio.ErrTooLarge, "more than 4194304"},
		{"oversized manifest", byTag, func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Length", strconv.Itoa(maxManifest+1))
			_, _ = w.Write(bytes.Repeat([]byte(" "), maxManifest+1))
		}, boundedio.ErrTooLarge, "at most 4194304"},
		{"deeply nested manifest", byTag, func(w http.ResponseWriter, _ string) {
			_, _ = io.WriteString(w, `{"a":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+"}")
		}, nil, "nested deeper"},
		{"tag of something else", byTag, func(w http.ResponseWriter, _ string) {
			_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
		}, nil, "lists no artifact"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			location := serveHostile(t, hostile(dir, func(w http.ResponseWriter, _ *http.Request, rest string) bool {
				if tt.on(rest) {
					tt.answer(w, rest)
					return true
				}
				return false
			}))
			_, err := f.fetch(source(t, Config{Location: location}), pin)
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			says(t, err, tt.says)
		})
	}
	if _, err := f.fetch(source(t, Config{Location: serveHostile(t, hostile(dir, nil))}), pin); err != nil {
		t.Errorf("without meddling: %v", err)
	}
}

func TestForgedArtifactIsRefused(t *testing.T) {
	retitle := func(title string) func(*ocispec.Manifest) {
		return func(m *ocispec.Manifest) { m.Layers[1].Annotations[ocispec.AnnotationTitle] = title }
	}
	for _, tt := range []struct {
		name  string
		files func(*ocispec.Manifest)
		root  func(*ocispec.Index)
		says  string
	}{
		{"path traversal in a title", retitle("../../etc/cron.d/x"), nil, "no path inside"},
		{"absolute title", retitle("/etc/passwd"), nil, "no path inside"},
		{"title with a backslash", retitle(`..\x`), nil, "no path inside"},
		{"no title", retitle(""), nil, "no path inside"},
		{"title without end", retitle(strings.Repeat("a", 1000)), nil, "no path inside"},
		{"one title twice", retitle(indexPath), nil, "two layers have the title"},
		{"digest that is a path", func(m *ocispec.Manifest) { m.Layers[0].Digest = "sha256:../../../../etc/passwd" }, nil, "want sha256:"},
		{"digest of another kind", func(m *ocispec.Manifest) { m.Layers[0].Digest = "md5:d41d8cd98f00b204e9800998ecf8427e" }, nil, "want sha256:"},
		{"negative size", func(m *ocispec.Manifest) { m.Layers[0].Size = -1 }, nil, "at most"},
		{"file of a terabyte", func(m *ocispec.Manifest) { m.Layers[0].Size = 1 << 40 }, nil, "at most"},
		{"artifact of another kind", func(m *ocispec.Manifest) { m.ArtifactType = "x/y" }, nil, "artifact of type"},
		{"files twice", nil, func(x *ocispec.Index) { x.Manifests = append(x.Manifests, x.Manifests[0]) }, "lists the files twice"},
		{"entry with a digest that is a path", nil, func(x *ocispec.Index) { x.Manifests[1].Digest = "sha256:../x" }, "want sha256:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, dir := pushedLayout(t)
			forge(t, dir, tt.files, tt.root)
			for _, location := range []string{schemeLayout + dir, serveHostile(t, hostile(dir, nil))} {
				_, err := f.client(source(t, Config{Location: location})).Index(t.Context())
				says(t, err, tt.says)
			}
		})
	}
}

func TestBlobsAreNotFetchedOverPlainHTTPAfterTLS(t *testing.T) {
	f, dir := pushedLayout(t)
	pin := f.publish("1.0.0")
	var leaked atomic.Bool
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked.Store(true)
		http.ServeFile(w, r, blobFile(dir, strings.TrimPrefix(path.Base(r.URL.Path), digestPrefix)))
	}))
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(hostile(dir, func(w http.ResponseWriter, r *http.Request, rest string) bool {
		if strings.HasPrefix(rest, "blobs/") {
			http.Redirect(w, r, plain.URL+"/"+path.Base(rest), http.StatusTemporaryRedirect)
			return true
		}
		return false
	}))
	t.Cleanup(secure.Close)
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	location := schemeRegistry + strings.TrimPrefix(secure.URL, "https://") + "/" + hostileRepository
	_, err := f.fetch(source(t, Config{Location: location, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}), pin)
	says(t, err, "from https to http")
	if leaked.Load() {
		t.Error("the redirect was followed")
	}
	// A registry elsewhere is never spoken to without TLS unless asked.
	for location, want := range map[string]string{
		"oci://registry.example.com/agentd": "https", "oci+http://registry.example.com/agentd": "http",
		"oci://127.0.0.1:5000/agentd": "http", "oci://[::1]:5000/agentd": "http", "oci://localhost/agentd": "http", "oci://127.0.0.1.example.com/agentd": "https",
	} {
		r, ok := source(t, Config{Location: location}).back.(*remoteRegistry)
		if !ok || r.base.Scheme != want || r.repo.PlainHTTP != (want == "http") {
			t.Errorf("%s: %+v, want %s", location, r.base, want)
		}
	}
}
