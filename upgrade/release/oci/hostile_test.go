package oci

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const hostileRepository = "team/agentd"

// hostile serves the layout in dir as a registry would, until meddle, which
// sees each request first, answers it.
func hostile(dir string, meddle func(w http.ResponseWriter, r *http.Request, rest string) bool) http.Handler {
	l, err := newLayout(dir)
	if err != nil {
		panic(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest := strings.TrimPrefix(r.URL.Path, "/v2/"+hostileRepository+"/")
		if meddle != nil && meddle(w, r, rest) {
			return
		}
		kind, name, _ := strings.Cut(rest, "/")
		switch kind {
		case "manifests":
			raw, err := l.manifest(r.Context(), name)
			if err != nil {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			var m struct {
				MediaType string `json:"mediaType"`
			}
			_ = json.Unmarshal(raw, &m)
			w.Header().Set("Content-Type", m.MediaType)
			_, _ = w.Write(raw)
		case "blobs":
			http.ServeFile(w, r, filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(name, digestPrefix)))
		case "referrers":
			found, err := l.referrers(r.Context(), name)
			if err != nil {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(w).Encode(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: found})
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
}

// serveHostile starts such a registry and returns its location.
func serveHostile(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return schemeRegistry + strings.TrimPrefix(server.URL, "http://") + "/" + hostileRepository
}

// forge replaces the tag of a layout's root by one whose files artifact and
// root have been edited.
func forge(t *testing.T, dir string, files func(*ocispec.Manifest), root func(*ocispec.Index)) {
	t.Helper()
	l, err := newLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := l.manifest(t.Context(), Tag)
	if err != nil {
		t.Fatal(err)
	}
	x, err := parseIndex(raw)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = pinned(t.Context(), l, x.Manifests[0]); err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := decode(raw, &m); err != nil {
		t.Fatal(err)
	}
	if files != nil {
		files(&m)
	}
	doc, err := newDocument(ocispec.MediaTypeImageManifest, ArtifactFiles, m)
	if err != nil {
		t.Fatal(err)
	}
	x.Manifests[0] = doc.desc
	if root != nil {
		root(x)
	}
	top, err := newDocument(ocispec.MediaTypeImageIndex, "", x)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.putManifest(t.Context(), doc.desc, doc.raw, ""); err != nil {
		t.Fatal(err)
	}
	if err := l.putManifest(t.Context(), top.desc, top.raw, Tag); err != nil {
		t.Fatal(err)
	}
}

// endless writes until the reader has gone, and fails the test if it takes
// more than any answer may have.
func endless(t *testing.T, w http.ResponseWriter) {
	chunk := bytes.Repeat([]byte(" "), 1<<20)
	for range 64 {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
	t.Error("64 MiB were read of what should have been small")
}

// pushedLayout is a repository with one release in a layout.
func pushedLayout(t *testing.T) (f *fixture, dir string) {
	t.Helper()
	f = newFixture(t)
	f.publish("1.0.0")
	dir = filepath.Join(t.TempDir(), "layout")
	f.push(PushConfig{Target: Config{Location: schemeLayout + dir}})
	return f, dir
}

// pushedTwice returns besides, in old, the directory as it was pushed first.
func pushedTwice(t *testing.T) (f *fixture, dir, old string) {
	t.Helper()
	f, dir = pushedLayout(t)
	old = t.TempDir()
	if err := os.CopyFS(old, os.DirFS(f.dir)); err != nil {
		t.Fatal(err)
	}
	f.publish("1.1.0")
	f.push(PushConfig{Target: Config{Location: schemeLayout + dir}})
	return f, dir, old
}

func blobFile(dir, hex string) string { return filepath.Join(dir, "blobs", "sha256", hex) }

func overwrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
