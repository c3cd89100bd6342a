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

func TestPublishedReleaseIsWhatWasGiven(t *testing.T) {
	f := newFixture(t)
	pin := f.publish("1.1.0", "1.0.0", "1.0.0-rc.1", "1.10.0")
	x, err := f.client().Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, e := range x.Releases {
		versions = append(versions, e.Version)
	}
	if got := strings.Join(versions, " "); got != "1.0.0-rc.1 1.0.0 1.1.0 1.10.0" {
		t.Errorf("the index lists %s", got)
	}
	if x.Sequence != 4 || !x.Issued.Equal(f.clock) || !x.Expires.Equal(f.clock.Add(fixtureValidity)) {
		t.Errorf("index is %+v", x)
	}
	if resolved, err := f.client().Resolve(t.Context(), "1.10.0"); err != nil || resolved != pin {
		t.Errorf("resolved %v (%v), published %v", resolved, err, pin)
	}
	m, _, _, err := f.client().Manifest(t.Context(), pin)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "agentd" || m.Version != "1.10.0" || m.Revision != "0123abc" || m.Requires.Upgrade != ">=1.0.0" || !m.Created.Equal(f.clock) {
		t.Errorf("manifest is %+v", m)
	}
}

func TestVersionNeverChanges(t *testing.T) {
	f := newFixture(t)
	pin := f.publish("1.0.0")
	before := f.read(f.path(indexPath))
	rel := f.release("1.0.0")
	again, err := f.repository(1).Publish(t.Context(), rel)
	if err != nil || again != pin {
		t.Errorf("the same release again: %v, %v; want %v", again, err, pin)
	}
	for name, change := range map[string]func(*Release){
		"other binary":   func(r *Release) { r.Binaries[0].Path = f.binary("9.9.9") },
		"other revision": func(r *Release) { r.Revision = "fedcba" },
		"other requires": func(r *Release) { r.Requires.Upgrade = "" },
		"another platform": func(r *Release) {
			r.Binaries = append(r.Binaries, Binary{OS: "linux", Arch: "arm64", Path: r.Binaries[0].Path})
		},
		"other annotations": func(r *Release) { r.Annotations = map[string]string{"a": "b"} },
	} {
		rel := f.release("1.0.0")
		change(&rel)
		if _, err := f.repository(1).Publish(t.Context(), rel); err == nil || !strings.Contains(err.Error(), "never changes") {
			t.Errorf("%s under a published version: %v", name, err)
		}
	}
	if !bytes.Equal(before, f.read(f.path(indexPath))) {
		t.Error("the index changed")
	}
	if blobs, err := os.ReadDir(f.path("blobs", "sha256")); err != nil || len(blobs) != 1 {
		t.Errorf("a refused release left blobs: %v (%v)", blobs, err)
	}
}

func TestPublishingAgainMendsDamagedBlob(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	f.write(f.path(blobPath(f.manifest("1.0.0").Platforms[0].SHA256)), []byte("damaged"))
	f.publish("1.0.0")
	if _, err := f.install(t.Context(), f.client(), "1.0.0"); err != nil {
		t.Error(err)
	}
}

func TestPublisherNeverSignsWhatAnotherHandWrote(t *testing.T) {
	for name, tamper := range map[string]func(f *fixture){
		"tampered index":      func(f *fixture) { f.replace(f.path(indexPath), f.entry("1.0.0").Manifest, goodDigest) },
		"unsigned index":      func(f *fixture) { f.remove(f.path(indexPath + signatureSuffix)); f.remove(f.path("indexes")) },
		"index by other key":  func(f *fixture) { f.signIndex(2, f.index()) },
		"index of other name": func(f *fixture) { x := f.index(); x.Name = "otherd"; f.signIndex(1, x) },
		"index of new schema": func(f *fixture) { x := f.index(); x.Schema = 2; f.signIndex(1, x) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.publish("1.0.0")
			tamper(f)
			before := f.read(f.path(indexPath))
			if pin, err := f.repository(1).Publish(t.Context(), f.release("1.1.0")); err == nil {
				t.Errorf("published %v on top of it", pin)
			}
			if err := f.repository(1).Refresh(t.Context(), "agentd"); err == nil {
				t.Error("signed it anew")
			}
			if !bytes.Equal(before, f.read(f.path(indexPath))) {
				t.Error("the index changed")
			}
		})
	}
}

func TestKeyChangeExtendsTheOldIndex(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	r, err := NewRepository(RepositoryConfig{Dir: f.dir, Key: fixtureKey(t, 2), Trust: fixtureTrust(t, 1), Now: f.now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Publish(t.Context(), f.release("1.1.0")); err != nil {
		t.Fatal(err)
	}
	if x := f.index(); x.Sequence != 2 || len(x.Releases) != 2 {
		t.Errorf("index is %+v", x)
	}
}

func TestBadReleaseIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	for name, change := range map[string]func(f *fixture, r *Release){
		"floating version":     func(_ *fixture, r *Release) { r.Version = "latest" },
		"version with v":       func(_ *fixture, r *Release) { r.Version = "v1.0.0" },
		"no version":           func(_ *fixture, r *Release) { r.Version = "" },
		"name with traversal":  func(_ *fixture, r *Release) { r.Name = "../x" },
		"no name":              func(_ *fixture, r *Release) { r.Name = "" },
		"unreadable requires":  func(_ *fixture, r *Release) { r.Requires.Upgrade = "newest" },
		"no binary":            func(_ *fixture, r *Release) { r.Binaries = nil },
		"platform twice":       func(_ *fixture, r *Release) { r.Binaries = append(r.Binaries, r.Binaries[0]) },
		"platform with a path": func(_ *fixture, r *Release) { r.Binaries[0].OS = "../linux" },
		"binary missing":       func(_ *fixture, r *Release) { r.Binaries[0].Path += ".none" },
		"binary empty":         func(f *fixture, r *Release) { f.write(r.Binaries[0].Path, nil) },
		"binary a directory":   func(_ *fixture, r *Release) { r.Binaries[0].Path = filepath.Dir(r.Binaries[0].Path) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			rel := f.release("1.0.0")
			change(f, &rel)
			if pin, err := f.repository(1).Publish(t.Context(), rel); err == nil {
				t.Fatalf("published as %v", pin)
			}
			for _, p := range []string{indexPath, "blobs", "manifests", "indexes"} {
				if _, err := os.Lstat(f.path(p)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s was written: %v", p, err)
				}
			}
		})
	}
}

func TestRepositoryNeedsDirectoryAndKey(t *testing.T) {
	for name, cfg := range map[string]RepositoryConfig{
		"no directory":      {Key: fixtureKey(t, 1)},
		"no key":            {Dir: t.TempDir()},
		"negative validity": {Dir: t.TempDir(), Key: fixtureKey(t, 1), Validity: -time.Hour},
	} {
		if _, err := NewRepository(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestYankedReleaseCanBeOfferedAgain(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0")
	r := f.repository(1)
	if err := r.Yank(t.Context(), "agentd", "1.1.0", "loses records"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client().Resolve(t.Context(), "1.1.0"); !errors.Is(err, ErrYanked) || !strings.Contains(err.Error(), "nearest: 1.0.0") {
		t.Errorf("withdrawn: %v", err)
	}
	if _, err := r.Publish(t.Context(), f.release("1.1.0")); !errors.Is(err, ErrYanked) {
		t.Errorf("publishing a withdrawn version: %v, want ErrYanked", err)
	}
	if err := r.Yank(t.Context(), "agentd", "1.1.0", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client().Resolve(t.Context(), "1.1.0"); err != nil {
		t.Errorf("offered again: %v", err)
	}
	if err := r.Yank(t.Context(), "agentd", "9.9.9", "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown version: %v, want ErrNotFound", err)
	}
	if err := r.Refresh(t.Context(), "otherd"); !errors.Is(err, ErrUntrusted) {
		t.Errorf("other program: %v, want ErrUntrusted", err)
	}
	empty := newFixture(t)
	if err := empty.repository(1).Refresh(t.Context(), "agentd"); !errors.Is(err, ErrNotFound) {
		t.Errorf("empty repository: %v, want ErrNotFound", err)
	}
}

func TestPublisherWithClockSetBackDoesNotTakeTheIndexBack(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	first := f.index()
	f.clock = f.clock.Add(-time.Hour)
	if _, err := f.repository(1).Publish(t.Context(), f.release("1.1.0")); err != nil {
		t.Fatal(err)
	}
	if x := f.index(); x.Issued.Before(first.Issued) || x.Expires.Before(first.Expires) {
		t.Errorf("issued %v then %v", first.Issued, x.Issued)
	}
}

func TestOldIndexSignaturesAreCleanedUp(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0")
	dir := f.path("indexes", "sha256")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v: want the signatures of both states", entries, err)
	}
	old := time.Now().Add(-2 * signatureRetention)
	for _, e := range entries {
		if err := os.Chtimes(filepath.Join(dir, e.Name()), old, old); err != nil {
			t.Fatal(err)
		}
	}
	f.publish("1.2.0")
	entries, err = os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v: want the signatures of the current index and of the one before alone", entries, err)
	}
}

// A web server runs as another user than the publisher.
func TestPublishedFilesCanBeServed(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	err := filepath.WalkDir(f.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o004 == 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPublisherWaitsForItsTurnAndNoLongerThanItsContext(t *testing.T) {
	f := newFixture(t)
	unlock, err := f.repository(1).lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := f.repository(1).Publish(ctx, f.release("1.0.0")); !errors.Is(err, ErrLocked) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another publishes: %v, want ErrLocked", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	f.publish("1.0.0")
}

// The C implementation of minisign must be able to check by hand what is
// published: prehashed, with the comment that says what it is.
func TestSignaturesSayWhatTheyAreFor(t *testing.T) {
	f := newFixture(t)
	pin := f.publish("1.0.0")
	for path, want := range map[string]string{
		indexPath:               "agentd index 1",
		manifestPath(pin.hex()): "agentd 1.0.0",
	} {
		var s minisign.Signature
		if err := s.UnmarshalText(f.read(f.path(path + signatureSuffix))); err != nil {
			t.Fatal(err)
		}
		if s.TrustedComment != want || s.Algorithm != minisign.HashEdDSA {
			t.Errorf("%s: comment %q, algorithm %#x", path, s.TrustedComment, s.Algorithm)
		}
	}
}
