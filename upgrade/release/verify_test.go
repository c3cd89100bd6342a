package release

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestVerifyFindsNothingInAGoodRepositoryAndRemembersNothing(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0")
	if err := f.repository(1).Yank(t.Context(), "agentd", "1.0.0", "old"); err != nil {
		t.Fatal(err)
	}
	v, err := f.client().Verify(t.Context())
	if err != nil || len(v.Damage) != 0 || v.Releases != 2 || v.Files != 5 || v.Index.Sequence != 3 || v.Bytes < int64(len(content("1.0.0"))*2) {
		t.Errorf("%v (%v)", v, err)
	}
	if _, err := os.Stat(f.state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a check moved what the host remembers: %v", err)
	}
}

// TestVerifyNamesEachDamageAndHowToMendIt damages one thing at a time, and
// where the way to mend it is a command, takes it.
func TestVerifyNamesEachDamageAndHowToMendIt(t *testing.T) {
	t.Parallel()
	manifest := func(f *fixture) string { return f.path(manifestPath(f.entry("1.1.0").Manifest)) }
	blob := func(f *fixture) string { return f.path(blobPath(f.manifest("1.1.0").Platforms[0].SHA256)) }
	again := func(f *fixture) {
		rel := f.release("1.1.0")
		rel.Created = issued.Add(2 * time.Second) // as the first time
		if _, err := f.repository(1).Publish(f.tb.Context(), rel); err != nil {
			f.tb.Fatal(err)
		}
	}
	refresh := func(f *fixture) {
		if err := f.repository(1).Refresh(f.tb.Context(), "agentd"); err != nil {
			f.tb.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		do            func(f *fixture)
		path          string // a part of it
		release       string
		problem, mend string
		repair        func(f *fixture)
	}{
		"index tampered with":        {func(f *fixture) { f.replace(f.path(indexPath), `"sequence": 2`, `"sequence": 3`) }, "index.json", "", "does not match", "backup", nil},
		"index signed by a stranger": {func(f *fixture) { f.signIndex(2, f.index()) }, "index.json", "", "signed by key", "backup", nil},
		"index gone":                 {func(f *fixture) { f.remove(f.path(indexPath)) }, "index.json", "", "not found", "backup", nil},
		"index of something else": {func(f *fixture) {
			x := f.index()
			x.Name = "otherd"
			f.signIndex(1, x)
		}, "index.json", "", "otherd", "backup", nil},
		"index expired": {func(f *fixture) { f.clock = f.clock.Add(fixtureValidity) }, "index.json", "", "expired", "release refresh", refresh},
		"index of the past": {func(f *fixture) {
			old := f.snapshot()
			f.publish("1.2.0")
			if _, err := f.client().Index(f.tb.Context()); err != nil {
				f.tb.Fatal(err)
			}
			f.restore(old, indexPath, indexPath+signatureSuffix)
		}, "index.json", "", "replayed", "backup", nil},
		"signature beside the index lost": {func(f *fixture) { f.remove(f.path(indexPath + signatureSuffix)) }, "index.json.minisig", "", "not signed", "release refresh", refresh},
		"manifest lost":                   {func(f *fixture) { f.remove(manifest(f)) }, "manifests/", "1.1.0", "no such file", "SOURCE_DATE_EPOCH", again},
		"manifest truncated":              {func(f *fixture) { f.write(manifest(f), f.read(manifest(f))[:9]) }, "manifests/", "1.1.0", "digest differs", "SOURCE_DATE_EPOCH", again},
		"manifest grown":                  {func(f *fixture) { f.write(manifest(f), append(f.read(manifest(f)), ' ')) }, "manifests/", "1.1.0", "too large", "SOURCE_DATE_EPOCH", again},
		"manifest not signed":             {func(f *fixture) { f.remove(manifest(f) + signatureSuffix) }, ".json.minisig", "1.1.0", "not signed", "signs it anew", again},
		"manifest signed by a stranger": {func(f *fixture) {
			f.write(manifest(f)+signatureSuffix, sign(fixtureKey(f.tb, 2), f.read(manifest(f)), "x"))
		}, ".json.minisig", "1.1.0", "signed by key", "signs it anew", again},
		"manifest of another release": {func(f *fixture) {
			f.signManifest(1, "1.1.0", f.read(f.path(manifestPath(f.entry("1.0.0").Manifest))))
		}, "manifests/", "1.1.0", "agentd 1.0.0", "yank", nil},
		"binary lost": {func(f *fixture) { f.remove(blob(f)) }, "blobs/", "1.1.0", "no such file", "writes it anew", again},
		"binary tampered with": {func(f *fixture) {
			data := f.read(blob(f))
			data[100] ^= 1
			f.write(blob(f), data)
		}, "blobs/", "1.1.0", "digest differs", "writes it anew", again},
		"binary truncated": {func(f *fixture) { f.write(blob(f), f.read(blob(f))[:100]) }, "blobs/", "1.1.0", "found 100", "writes it anew", again},
		"encoding lost": {func(f *fixture) {
			m := f.manifest("1.1.0")
			m.Platforms[0].Encodings = []Encoding{{Format: FormatZstd, SHA256: goodDigest, Size: 7}}
			raw, _ := encodeDocument(m)
			f.signManifest(1, "1.1.0", raw)
		}, "blobs/sha256/" + goodDigest, "1.1.0", "the zstd encoding for linux/amd64", "writes it anew", nil},
		"delta of other bytes": {func(f *fixture) {
			m := f.manifest("1.1.0")
			m.Platforms[0].Deltas = []Delta{{Encoding{Format: FormatBSDiff, SHA256: goodDigest, Size: 7}, goodDigest}}
			raw, _ := encodeDocument(m)
			f.signManifest(1, "1.1.0", raw)
			f.write(f.path(blobPath(goodDigest)), []byte("7 bytes"))
		}, "blobs/sha256/" + goodDigest, "1.1.0", "the bsdiff delta from " + goodDigest[:12], "writes it anew", nil},
		"twins": {func(f *fixture) {
			x := f.index()
			twin := x.Releases[1]
			twin.Version = "1.1.0+b"
			x.Releases = append(x.Releases, twin)
			f.signIndex(1, x)
		}, "index.json", "1.1.0", "build metadata", "yank one", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.publish("1.0.0", "1.1.0")
			c.do(f)
			v, err := f.client().Verify(t.Context())
			if err != nil || len(v.Damage) == 0 {
				t.Fatalf("no damage found: %v (%v)", v, err)
			}
			d := v.Damage[0]
			if !strings.Contains(d.Path, c.path) || d.Release != c.release || !strings.Contains(d.Problem, c.problem) || !strings.Contains(d.Mend, c.mend) {
				t.Errorf("damage %+v; want %s of %q that says %q and %q", d, c.path, c.release, c.problem, c.mend)
			}
			if len(v.Damage) > 1 && name != "twins" && name != "manifest of another release" {
				t.Errorf("also %+v", v.Damage[1:])
			}
			if c.repair == nil {
				return
			}
			if c.repair(f); true {
				if v, err := f.client().Verify(t.Context()); err != nil || len(v.Damage) != 0 {
					t.Errorf("what was said to mend it did not: %v (%v)", v, err)
				}
			}
		})
	}
}

func TestReleaseIsDescribedAlsoOnceItWasWithdrawn(t *testing.T) {
	f := newFixture(t)
	pin := f.publish("1.0.0")
	f.publish("1.1.0")
	if err := f.repository(1).Yank(t.Context(), "agentd", "1.0.0", "loses records"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"1.0.0", pin.String()} {
		d, err := f.client().Describe(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		if d.Pin != pin || d.Yanked != "loses records" || d.Manifest.Revision != "0123abc" || d.Index.Sequence != 3 ||
			d.SignedBy != (Signer{Key: fixtureTrust(t, 1).String(), Comment: "agentd 1.0.0"}) {
			t.Errorf("%s is %+v", text, d)
		}
	}
	for text, want := range map[string]error{"latest": ErrFloatingTag, "9.9.9": ErrNotFound, "1.0.0@sha256:" + goodDigest: ErrDigest, "1.0.0@x": nil} {
		if d, err := f.client().Describe(t.Context(), text); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %+v, %v; want %v", text, d, err, want)
		}
	}
	f.write(f.path(manifestPath(f.entry("1.1.0").Manifest)), []byte("x"))
	x, all, err := f.client().DescribeAll(t.Context())
	if err != nil || len(all) != 2 || x.Sequence != 3 || all[0].Manifest == nil || all[1].Problem == "" || all[1].Manifest != nil {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestSignerThatCannotBeShownIsRefused(t *testing.T) {
	good := sign(fixtureKey(t, 1), []byte("x"), "agentd 1.0.0")
	for name, signature := range map[string][]byte{
		"garbage":         []byte("x"),
		"endless":         bytes.Repeat([]byte("x"), maxSignatureSize+1),
		"escape sequence": bytes.Replace(good, []byte("agentd 1.0.0"), []byte("agentd \x1b[2J"), 1),
	} {
		if s, err := ReadSigner(signature); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}
