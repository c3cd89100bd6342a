package oci

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
)

func TestCosignSignsNothingThatTheReleaseKeysHaveNotSigned(t *testing.T) {
	stranger := newFixture(t)
	for name, tt := range map[string]struct {
		spoil func(f *fixture, cfg *PushConfig)
		want  error
		says  string
	}{
		"no trust":           {func(_ *fixture, cfg *PushConfig) { cfg.Trust = release.Trust{} }, release.ErrUntrusted, "no trusted key"},
		"no name":            {func(_ *fixture, cfg *PushConfig) { cfg.Name = "" }, nil, "program"},
		"another program":    {func(_ *fixture, cfg *PushConfig) { cfg.Name = "other" }, release.ErrUntrusted, "wanted the index of other"},
		"by another key":     {func(_ *fixture, cfg *PushConfig) { cfg.Trust = stranger.trust }, release.ErrUntrusted, ""},
		"index not signed":   {func(f *fixture, _ *PushConfig) { f.forge("index.json.minisig"); f.forge("indexes/sha256/*.minisig") }, release.ErrUntrusted, ""},
		"release not signed": {func(f *fixture, _ *PushConfig) { f.forge("manifests/sha256/*.minisig") }, release.ErrUntrusted, "1.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.publish("1.0.0")
			dir := filepath.Join(t.TempDir(), "layout")
			cfg := PushConfig{Dir: f.dir, Target: Config{Location: schemeLayout + dir}, Key: newPrivateKey(t), Trust: f.trust, Name: "agentd"}
			tt.spoil(f, &cfg)
			_, err := Push(t.Context(), cfg)
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			says(t, err, tt.says)
			if _, err := os.Stat(dir); err == nil {
				t.Error("something was sent")
			}
		})
	}
}

// forge replaces signatures by those of another key.
func (f *fixture) forge(pattern string) {
	f.tb.Helper()
	other := newFixture(f.tb)
	other.publish("1.0.0")
	mine, err1 := filepath.Glob(filepath.Join(f.dir, filepath.FromSlash(pattern)))
	theirs, err2 := filepath.Glob(filepath.Join(other.dir, filepath.FromSlash(pattern)))
	if err := errors.Join(err1, err2); err != nil || len(theirs) == 0 {
		f.tb.Fatalf("%s: %q, %v", pattern, theirs, err)
	}
	data, err := os.ReadFile(theirs[0])
	if err != nil {
		f.tb.Fatal(err)
	}
	for _, path := range mine {
		f.write(path, data)
	}
}

func TestCosignDoesNotSignWithdrawnReleases(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	f.publish("1.1.0")
	if err := f.repository().Yank(t.Context(), "agentd", "1.0.0", "broken"); err != nil {
		t.Fatal(err)
	}
	pushed := f.push(PushConfig{Target: Config{Location: schemeLayout + filepath.Join(t.TempDir(), "layout")}, Key: newPrivateKey(t)})
	for _, r := range pushed.Releases {
		if r.Signed != (r.Version == "1.1.0") {
			t.Errorf("%s: signed %v", r.Version, r.Signed)
		}
	}
	if len(pushed.Releases) != 2 {
		t.Errorf("pushed %+v", pushed.Releases)
	}
}
