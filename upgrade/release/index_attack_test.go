package release

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The attacks on index, manifest and names that the threat model
// names, each by its name: what a hostile mirror can do with what was once signed,
// and what it can do without a key. client_attack_test.go holds their
// variants.

// refused installs 1.1.0, which must fail with want and words, leave no file,
// and leave what the host remembers as it is.
func (f *fixture) refused(c *Client, want error, words string) {
	f.tb.Helper()
	before, _ := os.ReadFile(f.state)
	path, err := f.install(f.tb.Context(), c, "1.1.0")
	if err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), words) {
		f.tb.Errorf("error %v; want %v that says %q", err, want, words)
	}
	for _, p := range []string{path, path + UnverifiedSuffix} {
		if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
			f.tb.Errorf("%s is there: %v", filepath.Base(p), err)
		}
	}
	if after, _ := os.ReadFile(f.state); !bytes.Equal(before, after) {
		f.tb.Errorf("a refused repository changed trust.json from\n%s\nto\n%s", before, after)
	}
}

// seen has the host accept the index as it is.
func (f *fixture) seen(c *Client) {
	f.tb.Helper()
	if _, err := c.Index(f.tb.Context()); err != nil {
		f.tb.Fatal(err)
	}
}

func TestAttackRollbackByOldIndex(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0") // 1.1.0 turns out to be bad
	old := f.snapshot()
	if err := f.repository(1).Yank(t.Context(), "agentd", "1.1.0", "loses records"); err != nil {
		t.Fatal(err)
	}
	c := f.client()
	f.seen(c)
	f.remove(f.dir)
	if err := os.CopyFS(f.dir, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	f.refused(c, ErrReplay, "sequence 2, this host has accepted 3")
	f.refused(f.client(), ErrReplay, "sequence 2, this host has accepted 3")
}

func TestAttackFreezeByExpiredIndex(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0")
	c := f.client()
	f.seen(c)
	expires := f.index().Expires
	f.clock = expires.Add(time.Hour)
	f.refused(c, ErrExpired, "sign it again")
	// Nor does a clock that is set back thaw it, once a later time was seen.
	if err := f.repository(1).Refresh(t.Context(), "agentd"); err != nil {
		t.Fatal(err)
	}
	f.seen(c)
	x := f.index()
	x.Sequence, x.Expires = x.Sequence+1, expires
	x.Issued = expires.Add(-time.Hour)
	f.signIndex(1, x)
	f.clock = issued.Add(time.Hour)
	f.refused(c, ErrExpired, "set the clock")
}

func TestAttackMixOfOldManifestAndNewIndex(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0")
	old := f.manifest("1.1.0")
	oldPath := f.path(manifestPath(f.entry("1.1.0").Manifest))
	oldRaw, oldSignature := f.read(oldPath), f.read(oldPath+signatureSuffix)
	oldPin := f.entry("1.1.0").Pin()
	old.Revision = "mended"
	raw, err := encodeDocument(old)
	if err != nil {
		t.Fatal(err)
	}
	f.signManifest(1, "1.1.0", raw)
	c := f.client()
	f.seen(c)
	// The old, validly signed manifest in the place of the new one.
	path := f.path(manifestPath(f.entry("1.1.0").Manifest))
	f.write(path, oldRaw)
	f.write(path+signatureSuffix, oldSignature)
	f.refused(c, ErrDigest, "the manifest of 1.1.0")
	// And asked for by its own pin, where it still lies.
	if _, _, _, err := c.Manifest(t.Context(), oldPin); !errors.Is(err, ErrDigest) || !strings.Contains(err.Error(), "the order pins") {
		t.Errorf("pin of the old manifest: %v", err)
	}
}

// Whoever lacks the key cannot move the sequence at all, and whoever has it
// cannot move it to where no reader could follow.
func TestAttackFastForwardOfTheSequence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(f *fixture)
		want error
		says string
	}{
		"without a key": {func(f *fixture) { f.replace(f.path(indexPath), `"sequence": 2`, `"sequence": 9007199254740991`) }, ErrUntrusted, "does not match"},
		"by a key that is not trusted": {func(f *fixture) {
			x := f.index()
			x.Sequence = maxSequence
			f.signIndex(2, x)
		}, ErrUntrusted, "signed by key"},
		"beyond what readers keep exact": {func(f *fixture) {
			x := f.index()
			x.Sequence = maxSequence + 1
			f.signIndex(1, x)
		}, nil, "sequence 9007199254740992 is not between 1 and"},
		"in an expired index": {func(f *fixture) {
			x := f.index()
			x.Sequence, x.Issued, x.Expires = maxSequence, issued.Add(-2*time.Hour), issued.Add(-time.Hour)
			f.signIndex(1, x)
		}, ErrExpired, "expired"},
		"in the index of another program": {func(f *fixture) {
			x := f.index()
			x.Sequence, x.Name = maxSequence, "otherd"
			f.signIndex(1, x)
		}, ErrUntrusted, "otherd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.publish("1.0.0", "1.1.0")
			f.seen(f.client())
			good := f.snapshot()
			c.do(f)
			f.refused(f.client(), c.want, c.says)
			f.remove(f.dir)
			if err := os.CopyFS(f.dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			f.publish("1.2.0")
			if _, err := f.install(t.Context(), f.client(), "1.2.0"); err != nil {
				t.Errorf("afterwards the honest publisher is locked out: %v", err)
			}
		})
	}
}

func TestAttackSignedForAnotherNameVersionOrPlatform(t *testing.T) {
	edit := func(f *fixture, change func(*Manifest)) {
		m := f.manifest("1.1.0")
		change(m)
		raw, err := encodeDocument(m)
		if err != nil {
			f.tb.Fatal(err)
		}
		f.signManifest(1, "1.1.0", raw)
	}
	for name, c := range map[string]struct {
		do   func(f *fixture)
		want error
		says string
	}{
		"another name":                      {func(f *fixture) { edit(f, func(m *Manifest) { m.Name = "otherd" }) }, ErrUntrusted, "signed manifest of otherd 1.1.0"},
		"another version":                   {func(f *fixture) { edit(f, func(m *Manifest) { m.Version = "1.0.0" }) }, ErrUntrusted, "signed manifest of agentd 1.0.0"},
		"another version in build metadata": {func(f *fixture) { edit(f, func(m *Manifest) { m.Version = "1.1.0+b" }) }, ErrUntrusted, "agentd 1.1.0+b"},
		"another architecture":              {func(f *fixture) { edit(f, func(m *Manifest) { m.Platforms[0].Arch = "arm64" }) }, ErrPlatform, "want linux/amd64"},
		"another system":                    {func(f *fixture) { edit(f, func(m *Manifest) { m.Platforms[0].OS = "windows" }) }, ErrPlatform, "want linux/amd64"},
		"the binary of another platform": {func(f *fixture) {
			f.write(f.path(blobPath(f.manifest("1.1.0").Platforms[0].SHA256)), bytes.Repeat([]byte("arm64  1.1.0\n"), 40_000))
		}, ErrDigest, "altered"},
		"another name, in the index": {func(f *fixture) {
			x := f.index()
			x.Name = "otherd"
			f.signIndex(1, x)
		}, ErrUntrusted, "otherd"},
		"the whole repository of another program": {func(f *fixture) {
			other := newFixture(f.tb)
			rel := other.release("1.1.0")
			rel.Name = "otherd"
			if _, err := other.repository(1).Publish(f.tb.Context(), rel); err != nil {
				f.tb.Fatal(err)
			}
			f.remove(f.dir)
			if err := os.CopyFS(f.dir, os.DirFS(other.dir)); err != nil {
				f.tb.Fatal(err)
			}
		}, ErrUntrusted, "otherd"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.publish("1.0.0", "1.1.0")
			c.do(f)
			path, err := f.install(t.Context(), f.client(), "1.1.0")
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v; want %v that says %q", err, c.want, c.says)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("installed: %v", err)
			}
		})
	}
}

// TestAttackPathTraversalInNames: each name that comes from a document, and
// could become part of a path or URL. The server counts what it is asked for.
func TestAttackPathTraversalInNames(t *testing.T) {
	const up = "../../../../etc/passwd"
	digestPath := strings.Repeat("../", 21) + "x" // as long as a digest
	edit := func(f *fixture, change func(*Manifest)) {
		m := f.manifest("1.1.0")
		change(m)
		raw, _ := encodeDocument(m)
		f.signManifest(1, "1.1.0", raw)
	}
	index := func(f *fixture, change func(*Index)) {
		x := f.index()
		change(x)
		x.Sequence++
		f.signIndex(1, x)
	}
	for name, do := range map[string]func(f *fixture){
		"manifest's name":      func(f *fixture) { edit(f, func(m *Manifest) { m.Name = up }) },
		"manifest's version":   func(f *fixture) { edit(f, func(m *Manifest) { m.Version = "1.1.0-" + up }) },
		"system":               func(f *fixture) { edit(f, func(m *Manifest) { m.Platforms[0].OS = ".." }) },
		"architecture":         func(f *fixture) { edit(f, func(m *Manifest) { m.Platforms[0].Arch = "amd64/.." }) },
		"binary's digest":      func(f *fixture) { edit(f, func(m *Manifest) { m.Platforms[0].SHA256 = digestPath }) },
		"binary's digest, NUL": func(f *fixture) { edit(f, func(m *Manifest) { m.Platforms[0].SHA256 = goodDigest[:63] + "\x00" }) },
		"encoding's digest": func(f *fixture) {
			edit(f, func(m *Manifest) { m.Platforms[0].Encodings = []Encoding{{"zstd", digestPath, 1}} })
		},
		"encoding's format": func(f *fixture) {
			edit(f, func(m *Manifest) { m.Platforms[0].Encodings = []Encoding{{"../x", goodDigest, 1}} })
		},
		"delta's digest": func(f *fixture) {
			edit(f, func(m *Manifest) { m.Platforms[0].Deltas = []Delta{{Encoding{"zstd", digestPath, 1}, goodDigest}} })
		},
		"delta's other binary": func(f *fixture) {
			edit(f, func(m *Manifest) { m.Platforms[0].Deltas = []Delta{{Encoding{"zstd", goodDigest, 1}, digestPath}} })
		},
		"index's name":    func(f *fixture) { index(f, func(x *Index) { x.Name = up }) },
		"index's version": func(f *fixture) { index(f, func(x *Index) { x.Releases[1].Version = up }) },
		"index's digest":  func(f *fixture) { index(f, func(x *Index) { x.Releases[1].Manifest = digestPath }) },
		"index's digest, a URL": func(f *fixture) {
			index(f, func(x *Index) { x.Releases[1].Manifest = "http://evil.example.com/" + goodDigest[:39] })
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.publish("1.0.0", "1.1.0")
			do(f)
			var odd []string
			files := http.FileServer(http.Dir(f.dir))
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.RequestURI, "..") || strings.Contains(r.RequestURI, "%") || strings.Contains(r.RequestURI, "evil") || strings.HasPrefix(r.RequestURI, "/blobs") {
					odd = append(odd, r.RequestURI)
				}
				files.ServeHTTP(w, r)
			}))
			defer server.Close()
			src, err := NewSource(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			path, err := f.install(t.Context(), f.clientOf(src), "1.1.0")
			if err == nil {
				t.Error("installed")
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("installed: %v", err)
			}
			server.Close()
			if len(odd) > 0 {
				t.Errorf("a name from a document was asked for: %q", odd)
			}
		})
	}
	if _, err := NewClient(ClientConfig{Source: newFixture(t).source(), Trust: fixtureTrust(t, 1), Name: up}); err == nil {
		t.Error("a client for a path was made")
	}
	if err := (Pin{Version: "1.0.0", Digest: digestPrefix + digestPath}).Validate(); err == nil {
		t.Error("a pin with a path for a digest is valid")
	}
}
