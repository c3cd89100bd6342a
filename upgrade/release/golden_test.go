package release

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The files in testdata are what schema 1 looks like, for ever: hosts and
// publishers of other releases read and write them. A test that fails here
// says that the format has changed; the files are never edited to fit.

func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// goldenRepository publishes what the golden files were made from.
func goldenRepository(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	binaries := t.TempDir()
	var pin Pin
	for i, version := range []string{"1.0.0", "1.1.0-rc.1", "1.1.0"} {
		rel := Release{
			Name: "agentd", Version: version, Revision: "0123456789abcdef",
			Requires:    Requires{Upgrade: ">=1.0.0, <2", PluginAPI: "1", ConfigSchema: ">=1"},
			Annotations: map[string]string{"notes": "https://example.com/notes?a=1&b=2"},
		}
		for _, arch := range []string{"arm64", "amd64"} {
			path := filepath.Join(binaries, version+arch)
			f.write(path, []byte("binary "+version+" "+arch+"\n"))
			rel.Binaries = append(rel.Binaries, Binary{OS: "linux", Arch: arch, Path: path})
		}
		f.clock = issued.Add(time.Duration(i) * time.Hour)
		var err error
		if pin, err = f.repository(1).Publish(context.Background(), rel); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.repository(1).Yank(context.Background(), "agentd", "1.1.0-rc.1", "loses <records>"); err != nil {
		t.Fatal(err)
	}
	if pin.Version != "1.1.0" {
		t.Fatalf("pin is %v", pin)
	}
	return f
}

func TestSchema1IsWrittenAsEver(t *testing.T) {
	f := goldenRepository(t)
	manifest := manifestPath(f.entry("1.1.0").Manifest)
	for name, path := range map[string]string{
		"index-1.json":            indexPath,
		"index-1.json.minisig":    indexPath + signatureSuffix,
		"manifest-1.json":         manifest,
		"manifest-1.json.minisig": manifest + signatureSuffix,
	} {
		if got, want := f.read(f.path(path)), golden(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s is now written as\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestSchema1IsReadAsEver(t *testing.T) {
	trust, err := LoadTrust(filepath.Join("testdata", "release-1.pub"))
	if err != nil {
		t.Fatal(err)
	}
	raw := golden(t, "index-1.json")
	if err := trust.Verify(raw, golden(t, "index-1.json.minisig")); err != nil {
		t.Error(err)
	}
	x, err := ParseIndex(raw)
	if err != nil {
		t.Fatal(err)
	}
	if x.Name != "agentd" || x.Sequence != 4 || len(x.Releases) != 3 || x.Releases[1].Yanked != "loses <records>" {
		t.Errorf("index is %+v", x)
	}
	m, err := trust.VerifyManifest("agentd", "1.1.0", golden(t, "manifest-1.json"), golden(t, "manifest-1.json.minisig"))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := x.Find("1.1.0"); err != nil || e.Manifest != sha256Hex(golden(t, "manifest-1.json")) {
		t.Errorf("index lists %+v (%v)", e, err)
	}
	if p, err := m.Platform("linux", "arm64"); err != nil || p.Size != 19 {
		t.Errorf("platform is %+v (%v)", p, err)
	}
	if m.Requires != (Requires{Upgrade: ">=1.0.0, <2", PluginAPI: "1", ConfigSchema: ">=1"}) {
		t.Errorf("requires %+v", m.Requires)
	}
}

// Encodings and deltas came later than schema 1, and there are members that
// no one has thought of yet.
func TestManifestOfLaterReleaseIsRead(t *testing.T) {
	later, err := ParseManifest(golden(t, "manifest-1-later.json"))
	if err != nil {
		t.Fatal(err)
	}
	now, err := ParseManifest(golden(t, "manifest-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	p := &later.Platforms[0]
	zeros, ones, twos := strings.Repeat("0", 64), strings.Repeat("1", 64), strings.Repeat("2", 64)
	if !slices.Equal(p.Encodings, []Encoding{{Format: FormatZstd, SHA256: zeros, Size: 9}}) ||
		!slices.Equal(p.Deltas, []Delta{{Encoding: Encoding{Format: FormatBSDiff, SHA256: twos, Size: 5}, From: ones}}) {
		t.Errorf("encodings %+v, deltas %+v", p.Encodings, p.Deltas)
	}
	p.Encodings, p.Deltas = nil, nil
	a, _ := encodeDocument(later)
	b, _ := encodeDocument(now)
	if !bytes.Equal(a, b) {
		t.Errorf("read as\n%s\nwant\n%s", a, b)
	}
}
