package release

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestPathThatLeavesTheRepositoryIsNeverOpened(t *testing.T) {
	f := newFixture(t)
	f.write(f.path("index.json"), []byte("{}"))
	f.write(filepath.Join(filepath.Dir(f.dir), "secret"), []byte("secret"))
	server := httpSource(t, nil, HTTPConfig{URL: "http://127.0.0.1:1/repo"})
	for _, path := range []string{
		"../secret", "/etc/passwd", "a/../../secret", "", ".", "..", "./index.json", "index.json/", "//index.json",
		"..\\secret", "C:/secret", "blobs/%2e%2e/secret", "index.json?x=1", "index.json#x", "index.json\x00",
	} {
		for _, src := range []Source{f.source(), server} {
			if body, _, err := src.Open(t.Context(), path, 0); err == nil || !strings.Contains(err.Error(), "no path inside") {
				t.Errorf("%s: Open(%q) = %v, %v", src, path, body, err)
			}
		}
	}
}

func TestDirReadsNothingButRegularFilesInside(t *testing.T) {
	f := newFixture(t)
	f.write(f.path("inside"), []byte("0123456789"))
	outside := filepath.Join(t.TempDir(), "outside")
	f.write(outside, []byte("secret"))
	f.write(f.path("dir", "x"), nil)
	for name, target := range map[string]string{"absolute": outside, "relative": "../../outside", "parent": "..", "loop": "loop", "within": "inside"} {
		if err := os.Symlink(target, f.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"absolute", "relative", "parent", "loop", "dir", "none"} {
		if body, _, err := f.source().Open(t.Context(), path, 0); err == nil {
			t.Errorf("%s was opened: %v", path, body.Close())
		}
	}
	if _, _, err := f.source().Open(t.Context(), "none", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v, want fs.ErrNotExist", err)
	}
	body, size, err := f.source().Open(t.Context(), "within", 4)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(body)
	if string(rest) != "456789" || size != 10 || errors.Join(err, body.Close()) != nil {
		t.Errorf("read %q of %d, %v", rest, size, err)
	}
}

func TestDirReadEndsWithItsContext(t *testing.T) {
	f := newFixture(t)
	f.write(f.path("file"), []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	body, _, err := f.source().Open(ctx, "file", 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(body); !errors.Is(err, context.Canceled) {
		t.Errorf("read after cancel: %v", err)
	}
	if _, _, err := f.source().Open(ctx, "file", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("open after cancel: %v", err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}

func TestLocationThatIsNoRepositoryIsRefused(t *testing.T) {
	for location, says := range map[string]string{
		"":                        "empty",
		"ftp://host/repo":         "scheme",
		"oci://host/repo":         "scheme",
		"http://":                 "want http",
		"https:///path":           "want http",
		"http://host/r?token=x":   "query",
		"http://user:pass@ho st/": "cannot be parsed",
		"file://host/share":       "want file:///",
	} {
		_, err := NewSource(location)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want an error that says %q", location, err, says)
		}
		if err != nil && strings.Contains(err.Error(), "pass@") {
			t.Errorf("%q: the error shows the password: %v", location, err)
		}
	}
	want := "/srv/repo"
	if runtime.GOOS == "windows" {
		return
	}
	for _, location := range []string{"/srv/repo", "file:///srv/repo", "file://localhost/srv/repo"} {
		if src, err := NewSource(location); err != nil || src.String() != want {
			t.Errorf("%q: %v, %v", location, src, err)
		}
	}
	if src, err := NewSource("https://user:pass@host/repo"); err != nil || strings.Contains(src.String(), "pass") {
		t.Errorf("password shown or refused: %v, %v", src, err)
	}
}
