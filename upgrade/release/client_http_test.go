package release

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/perennial-go/perennial/internal/boundedio"
)

func TestRepositoryOverHTTPInstalls(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0")
	files := http.StripPrefix("/some/path", http.FileServer(http.Dir(f.dir)))
	var badRequest atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.Header.Get("Cache-Control") == "no-cache") == strings.Contains(r.URL.Path, "sha256") || r.Header.Get("Accept-Encoding") != "identity" {
			bad := fmt.Sprint(r.URL.Path, r.Header)
			badRequest.Store(&bad)
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	src, err := NewSource(server.URL + "/some/path/")
	if err != nil {
		t.Fatal(err)
	}
	path, err := f.install(t.Context(), f.clientOf(src), "1.1.0")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.read(path), content("1.1.0")) {
		t.Error("what was installed is not what was published")
	}
	if bad := badRequest.Load(); bad != nil {
		t.Errorf("a cache on the way could serve an old index, or not serve a blob: %s", *bad)
	}
}

func TestEndlessIndexOverHTTPIsCut(t *testing.T) {
	f := newFixture(t)
	var sent atomic.Int64
	src := httpSource(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 64<<10)
		for {
			n, err := w.Write(block)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}), HTTPConfig{})
	if _, err := f.clientOf(src).Index(t.Context()); !errors.Is(err, boundedio.ErrTooLarge) {
		t.Errorf("error %v, want one about the size", err)
	}
	if sent.Load() > 4*MaxIndexSize {
		t.Errorf("%d bytes were taken", sent.Load())
	}
}

func TestChunkedBlobLongerThanSignedIsCut(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	m := f.manifest("1.0.0")
	src := httpSource(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush() // no Content-Length from here on
		_, _ = w.Write(content("1.0.0")[:1000])
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}), HTTPConfig{})
	dst := filepath.Join(t.TempDir(), "agent")
	if _, err := f.clientOf(src).Fetch(t.Context(), m, dst, FetchOptions{}); !errors.Is(err, ErrDigest) {
		t.Errorf("error %v, want ErrDigest", err)
	}
	if _, err := os.Stat(dst); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("installed: %v", err)
	}
}

func TestDownloadOverHTTPResumesAcrossCalls(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	m := f.manifest("1.0.0")
	data := content("1.0.0")
	var connections atomic.Int32
	short := httpSource(t, cutting(data, 70_000, true, &connections), HTTPConfig{Attempts: 1})
	dst := filepath.Join(t.TempDir(), "agent")
	calls := 0
	for ; calls < 20; calls++ {
		if _, err := f.clientOf(short).Fetch(t.Context(), m, dst, FetchOptions{}); err == nil {
			break
		}
	}
	if !bytes.Equal(f.read(dst), data) {
		t.Error("the binary differs")
	}
	if want := len(data)/70_000 + 1; int(connections.Load()) != want {
		t.Errorf("%d connections in %d calls, want %d: bytes were fetched twice", connections.Load(), calls, want)
	}
}

func TestUnreachableServerIsOneSentence(t *testing.T) {
	f := newFixture(t)
	src := httpSource(t, nil, HTTPConfig{URL: "http://127.0.0.1:1/repo", Attempts: 2})
	_, err := f.clientOf(src).Index(t.Context())
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("error %q", err)
	}
}
