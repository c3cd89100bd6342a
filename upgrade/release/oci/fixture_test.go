package oci

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// fixture is a real repository directory of agentd.
type fixture struct {
	tb    testing.TB
	dir   string
	key   string // directory of the release keys
	trust release.Trust
}

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	f := &fixture{tb: tb, dir: filepath.Join(tb.TempDir(), "repo"), key: tb.TempDir()}
	public, err := release.GenerateKey(f.key)
	if err != nil {
		tb.Fatal(err)
	}
	f.trust.Keys = append(f.trust.Keys, public)
	return f
}

// content is the binary of a version: large enough for several chunks.
func content(version string) []byte {
	return bytes.Repeat([]byte("binary "+version+"\n"), 40_000)
}

func (f *fixture) repository() *release.Repository {
	f.tb.Helper()
	key, err := release.LoadPrivateKey(filepath.Join(f.key, release.PrivateKeyFile))
	if err != nil {
		f.tb.Fatal(err)
	}
	r, err := release.NewRepository(release.RepositoryConfig{PlainOnly: true, Dir: f.dir, Key: key})
	if err != nil {
		f.tb.Fatal(err)
	}
	return r
}

// publish adds a version for this platform and another one.
func (f *fixture) publish(version string) release.Pin {
	f.tb.Helper()
	return f.publishAs("agentd", version)
}

func (f *fixture) publishAs(name, version string) release.Pin {
	f.tb.Helper()
	return f.publishBinary(name, version, content(version))
}

func (f *fixture) publishBinary(name, version string, binary []byte) release.Pin {
	f.tb.Helper()
	here, other := filepath.Join(f.tb.TempDir(), "here"), filepath.Join(f.tb.TempDir(), "other")
	f.write(here, binary)
	f.write(other, append(bytes.Clone(binary), "plan9"...))
	pin, err := f.repository().Publish(context.Background(), release.Release{
		Name: name, Version: version, Revision: "0123abc",
		Created:     time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC),
		Annotations: map[string]string{"org.opencontainers.image.source": "https://example.com/agentd", "note": "not for containers"},
		Binaries: []release.Binary{
			{OS: runtime.GOOS, Arch: runtime.GOARCH, Path: here},
			{OS: "plan9", Arch: "mips", Path: other},
		},
	})
	if err != nil {
		f.tb.Fatal(err)
	}
	return pin
}

func (f *fixture) write(path string, data []byte) {
	f.tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.tb.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		f.tb.Fatal(err)
	}
}

// push copies the directory and fails the test if it cannot.
func (f *fixture) push(cfg PushConfig) *Pushed {
	f.tb.Helper()
	cfg.Dir = f.dir
	cfg.Trust, cfg.Name = f.trust, "agentd"
	pushed, err := Push(context.Background(), cfg)
	if err != nil {
		f.tb.Fatal(err)
	}
	return pushed
}

func (f *fixture) client(src release.Source) *release.Client {
	f.tb.Helper()
	c, err := release.NewClient(release.ClientConfig{Source: src, Trust: f.trust, Name: "agentd"})
	if err != nil {
		f.tb.Fatal(err)
	}
	return c
}

// source opens a location with few and quick attempts.
func source(tb testing.TB, cfg Config) *Source {
	tb.Helper()
	if cfg.Attempts == 0 {
		cfg.Attempts = 2
	}
	src, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return src
}

// fetch takes a release as a host does, and returns its binary.
func (f *fixture) fetch(src release.Source, pin release.Pin) ([]byte, error) {
	f.tb.Helper()
	c := f.client(src)
	m, _, _, err := c.Manifest(context.Background(), pin)
	if err != nil {
		return nil, err
	}
	dst := filepath.Join(f.tb.TempDir(), "agentd")
	if _, err := c.Fetch(context.Background(), m, dst, release.FetchOptions{}); err != nil {
		return nil, err
	}
	return os.ReadFile(dst)
}

func says(tb testing.TB, err error, parts ...string) {
	tb.Helper()
	if err == nil {
		tb.Errorf("no error, want one that says %q", parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			tb.Errorf("error %v, want it to say %q", err, part)
		}
	}
}
