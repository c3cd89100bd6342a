package release

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
)

// attack is one thing that a hostile mirror, or a mistake, can do to a
// repository of 1.0.0, 1.1.0 and 1.2.0 from which a host wants 1.2.0.
type attack struct {
	name string
	do   func(f *fixture)
	want error
	says string
}

func TestHostileRepositoryNeverInstallsAnything(t *testing.T) {
	t.Parallel()
	attacks := append(indexAttacks(), manifestAttacks()...)
	for _, a := range append(attacks, blobAttacks()...) {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel() // most of the time is spent on fsync and on the pauses between looks
			f := newFixture(t)
			f.publish("1.0.0", "1.1.0", "1.2.0")
			a.do(f)
			path, err := f.install(t.Context(), f.client(), "1.2.0")
			// The directory is named after the attack and must not stand in
			// for the words of the error.
			if err == nil || (a.want != nil && !errors.Is(err, a.want)) || !strings.Contains(strings.ReplaceAll(err.Error(), f.dir, ""), a.says) {
				t.Errorf("error %v; want %v that says %q", err, a.want, a.says)
			}
			for _, p := range []string{path, path + UnverifiedSuffix} {
				if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is there: %v", filepath.Base(p), err)
				}
			}
		})
	}
}

func TestHonestRepositoryInstalls(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0", "1.2.0")
	path, err := f.install(t.Context(), f.client(), "1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.read(path), content("1.2.0")) {
		t.Error("what was installed is not what was published")
	}
}

func indexAttacks() []attack {
	return []attack{
		{"unsigned index", func(f *fixture) {
			f.remove(f.path(indexPath + signatureSuffix))
			f.remove(f.path("indexes"))
		}, ErrUntrusted, "not signed"},
		{"index signed by another key", func(f *fixture) { f.signIndex(2, f.index()) }, ErrUntrusted, "signed by key"},
		{"index signed by a key that claims a trusted id", func(f *fixture) {
			other := rawKey(f.tb, fixtureKey(f.tb, 1).ID(), privateHalf(f, 2))
			raw := f.read(f.path(indexPath))
			f.remove(f.path("indexes"))
			f.write(f.path(indexPath+signatureSuffix), sign(other, raw, "agentd index"))
		}, ErrUntrusted, "does not match"},
		{"tampered index", func(f *fixture) { f.replace(f.path(indexPath), `"sequence": 3`, `"sequence": 4`) }, ErrUntrusted, "does not match"},
		{"tampered trusted comment", func(f *fixture) {
			f.replace(f.path(indexPath+signatureSuffix), "index 3", "index 4")
			f.remove(f.path("indexes"))
		}, ErrUntrusted, "does not match"},
		{"signature of an earlier index", func(f *fixture) {
			old := f.snapshot()
			f.publish("1.3.0")
			f.remove(f.path("indexes"))
			f.restore(old, indexPath+signatureSuffix)
		}, ErrUntrusted, "does not match"},
		{"legacy signature without hashing", func(f *fixture) {
			f.remove(f.path("indexes"))
			f.write(f.path(indexPath+signatureSuffix), minisign.Sign(fixtureKey(f.tb, 1), f.read(f.path(indexPath))))
		}, ErrUntrusted, "legacy"},
		{"garbage for a signature", func(f *fixture) {
			f.remove(f.path("indexes"))
			f.write(f.path(indexPath+signatureSuffix), []byte(strings.Repeat("\x00\n", 100)))
		}, ErrUntrusted, "cannot be read"},
		{"endless signature", func(f *fixture) {
			f.remove(f.path("indexes"))
			f.write(f.path(indexPath+signatureSuffix), bytes.Repeat([]byte("x"), 1<<20))
		}, ErrUntrusted, "at most"},
		{"index of another program", func(f *fixture) {
			x := f.index()
			x.Name = "otherd"
			f.signIndex(1, x)
		}, ErrUntrusted, "otherd"},
		{"manifest in place of the index", func(f *fixture) {
			path := f.path(manifestPath(f.entry("1.2.0").Manifest))
			f.remove(f.path("indexes"))
			f.write(f.path(indexPath), f.read(path))
			f.write(f.path(indexPath+signatureSuffix), f.read(path+signatureSuffix))
		}, nil, "sequence 0"},
		{"index of a newer schema", func(f *fixture) {
			x := f.index()
			x.Schema = 2
			f.signIndex(1, x)
		}, nil, "schema 2"},
		{"huge index", func(f *fixture) { f.write(f.path(indexPath), make([]byte, MaxIndexSize+1)) }, nil, "at most"},
		{"empty index", func(f *fixture) { f.write(f.path(indexPath), nil) }, ErrUntrusted, ""},
		{"no index", func(f *fixture) { f.remove(f.path(indexPath)) }, ErrNotFound, "is the repository"},
		{"version not in the index", func(f *fixture) {
			x := f.index()
			x.Releases, x.Sequence = x.Releases[:2], 4
			f.signIndex(1, x)
		}, ErrNotFound, "nearest: 1.0.0, 1.1.0"},
		{"yanked", func(f *fixture) {
			if err := f.repository(1).Yank(context.Background(), "agentd", "1.2.0", "loses records"); err != nil {
				f.tb.Fatal(err)
			}
		}, ErrYanked, "loses records"},
		{"expired index", func(f *fixture) { f.clock = f.clock.Add(fixtureValidity) }, ErrExpired, "sign it again"},
		{"repository not there", func(f *fixture) { f.remove(f.dir) }, ErrNotFound, "is the repository"},
	}
}

func manifestAttacks() []attack {
	edit := func(f *fixture, change func(*Manifest)) []byte {
		m := f.manifest("1.2.0")
		change(m)
		raw, err := encodeDocument(m)
		if err != nil {
			f.tb.Fatal(err)
		}
		return raw
	}
	path := func(f *fixture, version string) string { return f.path(manifestPath(f.entry(version).Manifest)) }
	return []attack{
		{"unsigned manifest", func(f *fixture) { f.remove(path(f, "1.2.0") + signatureSuffix) }, ErrUntrusted, "not signed"},
		{"manifest signed by another key", func(f *fixture) {
			f.signManifest(2, "1.2.0", f.read(path(f, "1.2.0")))
		}, ErrUntrusted, "signed by key"},
		{"tampered manifest", func(f *fixture) { f.replace(path(f, "1.2.0"), "0123abc", "0123abd") }, ErrDigest, "altered"},
		{"truncated manifest", func(f *fixture) {
			p := path(f, "1.2.0")
			f.write(p, f.read(p)[:100])
		}, ErrDigest, "altered"},
		{"endless manifest", func(f *fixture) {
			p := path(f, "1.2.0")
			f.write(p, append(f.read(p), make([]byte, 1<<20)...))
		}, ErrDigest, "too large"},
		{"manifest missing", func(f *fixture) { f.remove(path(f, "1.2.0")) }, ErrNotFound, "complete"},
		{"manifest signed for another name", func(f *fixture) {
			f.signManifest(1, "1.2.0", edit(f, func(m *Manifest) { m.Name = "otherd" }))
		}, ErrUntrusted, "otherd"},
		{"manifest signed for another version", func(f *fixture) {
			f.signManifest(1, "1.2.0", f.read(path(f, "1.0.0")))
		}, ErrUntrusted, "agentd 1.0.0"},
		{"old manifest's bytes under the new digest", func(f *fixture) {
			f.write(path(f, "1.2.0"), f.read(path(f, "1.1.0")))
			f.write(path(f, "1.2.0")+signatureSuffix, f.read(path(f, "1.1.0")+signatureSuffix))
		}, ErrDigest, "altered"},
		{"index in place of the manifest", func(f *fixture) {
			f.signManifest(1, "1.2.0", f.read(f.path(indexPath)))
		}, nil, "manifest"},
		{"manifest without this platform", func(f *fixture) {
			f.signManifest(1, "1.2.0", edit(f, func(m *Manifest) { m.Platforms[0].Arch = "riscv64" }))
		}, ErrPlatform, "linux/amd64"},
		{"manifest whose blob digest is a path", func(f *fixture) {
			f.signManifest(1, "1.2.0", edit(f, func(m *Manifest) { m.Platforms[0].SHA256 = "../../../../etc/passwd" }))
		}, nil, "hexadecimal"},
		{"manifest whose name is a path", func(f *fixture) {
			f.signManifest(1, "1.2.0", edit(f, func(m *Manifest) { m.Name = "../agentd" }))
		}, nil, "name"},
		{"manifest of a newer schema", func(f *fixture) {
			f.signManifest(1, "1.2.0", edit(f, func(m *Manifest) { m.Schema = 2 }))
		}, nil, "schema 2"},
	}
}

func blobAttacks() []attack {
	path := func(f *fixture, version string) string {
		return f.path(blobPath(f.manifest(version).Platforms[0].SHA256))
	}
	return []attack{
		{"tampered blob", func(f *fixture) {
			data := f.read(path(f, "1.2.0"))
			data[len(data)/2] ^= 1
			f.write(path(f, "1.2.0"), data)
		}, ErrDigest, "altered"},
		{"blob of another release", func(f *fixture) {
			f.write(path(f, "1.2.0"), f.read(path(f, "1.1.0")))
		}, ErrDigest, "altered"},
		{"truncated blob", func(f *fixture) {
			f.write(path(f, "1.2.0"), f.read(path(f, "1.2.0"))[:1000])
		}, ErrDigest, "has 1000 bytes"},
		{"endless blob", func(f *fixture) {
			f.write(path(f, "1.2.0"), append(f.read(path(f, "1.2.0")), make([]byte, 1<<20)...))
		}, ErrDigest, "signed are"},
		{"blob missing", func(f *fixture) { f.remove(path(f, "1.2.0")) }, ErrNotFound, "complete"},
		{"blob is a link to a file outside", func(f *fixture) {
			outside := filepath.Join(f.tb.TempDir(), "outside")
			f.write(outside, content("1.2.0"))
			f.remove(path(f, "1.2.0"))
			if err := os.Symlink(outside, path(f, "1.2.0")); err != nil {
				f.tb.Fatal(err)
			}
		}, nil, "escapes"},
		{"blob is a directory", func(f *fixture) {
			f.remove(path(f, "1.2.0"))
			if err := os.Mkdir(path(f, "1.2.0"), 0o755); err != nil {
				f.tb.Fatal(err)
			}
		}, nil, "regular"},
	}
}

// privateHalf returns the Ed25519 key of a seed.
func privateHalf(f *fixture, seed byte) []byte {
	text, err := fixtureKey(f.tb, seed).MarshalText()
	if err != nil {
		f.tb.Fatal(err)
	}
	return decodedKey(f.tb, text)
}

func TestMixOfOldIndexAndNewIndexIsReplay(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0")
	old := f.snapshot()
	f.publish("1.2.0")
	c := f.client()
	if _, err := c.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := f.read(f.state)

	// The mirror goes back in time, completely and validly signed.
	f.restore(old, indexPath, indexPath+signatureSuffix)
	for name, client := range map[string]*Client{"same process": c, "after a restart": f.client()} {
		if _, err := client.Index(t.Context()); !errors.Is(err, ErrReplay) {
			t.Errorf("%s: old index replayed: %v, want ErrReplay", name, err)
		}
		if _, err := client.Resolve(t.Context(), "1.0.0"); !errors.Is(err, ErrReplay) {
			t.Errorf("%s: version of a replayed index resolved: %v", name, err)
		}
	}
	if !bytes.Equal(before, f.read(f.state)) {
		t.Error("a refused index changed trust.json")
	}
}

func TestPinOfOldManifestIsRefusedUnderNewIndex(t *testing.T) {
	f := newFixture(t)
	old := f.publish("1.0.0", "1.1.0")
	m := f.manifest("1.1.0")
	m.Revision = "rebuilt"
	raw, err := encodeDocument(m)
	if err != nil {
		t.Fatal(err)
	}
	f.signManifest(1, "1.1.0", raw)
	// The old manifest is still there and its signature still good.
	if _, _, _, err := f.client().Manifest(t.Context(), old); !errors.Is(err, ErrDigest) {
		t.Errorf("old manifest under a new index: %v, want ErrDigest", err)
	}
}

func TestTwoIndexesWithOneSequenceAreRefused(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	fork := f.snapshot()
	f.publish("1.1.0")
	if _, err := f.client().Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.remove(f.dir)
	if err := os.CopyFS(f.dir, os.DirFS(fork)); err != nil {
		t.Fatal(err)
	}
	f.publish("1.2.0")
	if _, err := f.client().Index(t.Context()); !errors.Is(err, ErrReplay) {
		t.Errorf("second index with the same sequence: %v, want ErrReplay", err)
	}
	f.publish("1.3.0")
	if _, err := f.client().Index(t.Context()); err != nil {
		t.Errorf("the fork cannot be left behind: %v", err)
	}
}

func TestRotatedKeysAreAllTrusted(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	c, err := NewClient(ClientConfig{Source: f.source(), Trust: fixtureTrust(t, 2, 1), Name: "agentd", OS: "linux", Arch: "amd64", Now: f.now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Index(t.Context()); err != nil {
		t.Errorf("second of two trusted keys: %v", err)
	}
}

func TestClientWithoutTrustIsRefused(t *testing.T) {
	f := newFixture(t)
	for name, cfg := range map[string]ClientConfig{
		"no keys":         {Source: f.source(), Name: "agentd"},
		"no source":       {Trust: fixtureTrust(t, 1), Name: "agentd"},
		"no name":         {Source: f.source(), Trust: fixtureTrust(t, 1)},
		"name that leads": {Source: f.source(), Trust: fixtureTrust(t, 1), Name: "../agentd"},
	} {
		if _, err := NewClient(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestErrorSaysOperationAndRelease(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	_, err := f.client().Resolve(t.Context(), "9.9.9")
	var e *Error
	if !errors.As(err, &e) || e.Op == "" || e.Release != "9.9.9" {
		t.Errorf("error %#v names no operation and release", err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error is no single sentence: %q", err)
	}
}

func TestCancelledContextEndsTheLookAtOnce(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	f.signIndex(2, f.index())
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	if _, err := f.client().Index(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
}
