package release

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/ctxio"
	"github.com/perennial-go/perennial/internal/failpoint"
)

// Validate finds what can be wrong with the fields alone, before any file is
// read. Publish does so as well.
func (rel Release) Validate() error {
	if err := CheckName(rel.Name); err != nil {
		return err
	}
	if _, err := ParseVersion(rel.Version); err != nil {
		return err
	}
	if err := rel.validateText(); err != nil {
		return err
	}
	if err := rel.Requires.validate(); err != nil {
		return err
	}
	if len(rel.Binaries) == 0 {
		return errors.New("the release has no binary: give at least one")
	}
	seen := map[string]bool{}
	for _, b := range rel.Binaries {
		p := b.platform()
		if !p.named() {
			return fmt.Errorf("binary %s: platform %.80q: want a GOOS and a GOARCH, such as linux and amd64", b.Path, p.String())
		}
		if seen[p.String()] {
			return fmt.Errorf("binary %s: platform %s is given twice", b.Path, p)
		}
		seen[p.String()] = true
	}
	if rel.DeltaFrom < 0 || rel.DeltaFrom > maxDeltaFrom {
		return fmt.Errorf("deltas from the last %d releases: want 0 to %d", rel.DeltaFrom, maxDeltaFrom)
	}
	return nil
}

func (b Binary) platform() Platform {
	return Platform{OS: cmp.Or(b.OS, runtime.GOOS), Arch: cmp.Or(b.Arch, runtime.GOARCH)}
}

// describe returns the manifest of a release, and writes nothing.
func (r *Repository) describe(ctx context.Context, rel Release) (*Manifest, error) {
	m := &Manifest{
		Schema:   Schema,
		Name:     rel.Name,
		Version:  rel.Version,
		Revision: rel.Revision,
		Requires: rel.Requires,
	}
	if len(rel.Annotations) > 0 {
		m.Annotations = maps.Clone(rel.Annotations)
	}
	for _, b := range rel.Binaries {
		p, err := copyBinary(ctx, b, io.Discard)
		if err != nil {
			return nil, fmt.Errorf("binary %s: %w", b.Path, err)
		}
		m.Platforms = append(m.Platforms, p)
	}
	slices.SortFunc(m.Platforms, func(a, b Platform) int { return strings.Compare(a.String(), b.String()) })
	m.date(rel.Created, r.cfg.Now())
	return m, nil
}

// copyBinary copies a binary to w and describes the bytes that it copied.
func copyBinary(ctx context.Context, b Binary, w io.Writer) (p Platform, err error) {
	p = b.platform()
	in, err := openBinary(b.Path)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	p.Build = readBuild(in)
	sum := sha256.New()
	if p.Size, err = io.Copy(io.MultiWriter(w, sum), ctxio.Reader(ctx, in)); err != nil {
		return p, err
	}
	p.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return p, p.validate()
}

// storeBlobs copies the binaries in under their digests.
func (r *Repository) storeBlobs(ctx context.Context, binaries []Binary, m *Manifest) error {
	dir := filepath.Join(r.cfg.Dir, "blobs", "sha256")
	if err := r.makeDir(dir); err != nil {
		return writeError(err)
	}
	// This process holds the lock: temporary files here are of dead ones.
	if err := atomicfile.RemoveTemp(dir); err != nil {
		return err
	}
	for _, b := range binaries {
		p, err := storeBlob(ctx, b, dir)
		if err == nil && !m.has(p) {
			err = errors.New("the file changed while it was published: publish again when its build has finished")
		}
		if err != nil {
			return fmt.Errorf("binary %s: %w", b.Path, writeError(err))
		}
	}
	return failpoint.Hit("publish.blobs")
}

// storeBlob copies one binary into dir. A blob that is there already is
// replaced all the same: it may be damaged, and the same bytes do no harm to
// who reads it now.
func storeBlob(ctx context.Context, b Binary, dir string) (Platform, error) {
	tmp, err := os.CreateTemp(dir, atomicfile.TempPrefix+"blob-*")
	if err != nil {
		return Platform{}, err
	}
	p, err := copyBinary(ctx, b, tmp)
	if err == nil {
		err = errors.Join(tmp.Chmod(0o644), tmp.Sync())
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return p, errors.Join(err, os.Remove(tmp.Name()))
	}
	return p, atomicfile.Rename(tmp.Name(), filepath.Join(dir, p.SHA256))
}

func openBinary(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file: give an executable")}
	}
	if info.Size() == 0 {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("empty file: give an executable")}
	}
	return os.Open(path)
}

// storeManifest signs and writes the manifest, its signature first: a
// manifest that is there has one.
func (r *Repository) storeManifest(m *Manifest) (IndexEntry, error) {
	raw, err := encodeDocument(m)
	if err != nil {
		return IndexEntry{}, err
	}
	if _, err := ParseManifest(raw); err != nil {
		return IndexEntry{}, fmt.Errorf("the manifest would not be readable: %w", err)
	}
	digest := sha256Hex(raw)
	signature := sign(r.cfg.Key, raw, m.Name+" "+m.Version)
	if err := r.write(manifestPath(digest)+signatureSuffix, signature); err != nil {
		return IndexEntry{}, err
	}
	if err := r.write(manifestPath(digest), raw); err != nil {
		return IndexEntry{}, err
	}
	if err := failpoint.Hit("publish.manifest"); err != nil {
		return IndexEntry{}, err
	}
	return IndexEntry{Version: m.Version, Manifest: digest, Size: int64(len(raw))}, nil
}

// checkSame decides about a version that the index has already: the same
// content may be published again (after an interrupted script, or to mend a
// damaged repository), other content may not.
//
// It returns the manifest as published. Smaller forms are not compared: those
// that were made then stay.
func (r *Repository) checkSame(e IndexEntry, m *Manifest) (*Manifest, error) {
	if e.Yanked != "" {
		return nil, fmt.Errorf("%w: version %s was withdrawn (%s): choose a new version", ErrYanked, e.Version, shown(e.Yanked))
	}
	known, err := r.known(e)
	if err != nil {
		return nil, err
	}
	same := *m
	same.Created = known.Created
	same.forgetBuilds(known)
	for i, p := range same.Platforms {
		if published, err := known.Platform(p.OS, p.Arch); err == nil {
			same.Platforms[i].Encodings, same.Platforms[i].Deltas = published.Encodings, published.Deltas
		}
	}
	if !reflect.DeepEqual(&same, known) {
		return nil, fmt.Errorf("version %s is published as %s with other content, and a version never changes: choose a new version", e.Version, e.Pin().Digest)
	}
	return known, nil
}

// known reads the manifest of a release that is in the index.
func (r *Repository) known(e IndexEntry) (*Manifest, error) {
	raw, err := atomicfile.Read(filepath.Join(r.cfg.Dir, filepath.FromSlash(manifestPath(e.Manifest))), MaxManifestSize)
	if err != nil {
		return nil, fmt.Errorf("manifest of the published %s: %w: restore it from a backup, or publish a new version", e.Version, err)
	}
	if sha256Hex(raw) != e.Manifest {
		return nil, fmt.Errorf("%w: the manifest of the published %s was changed: restore it from a backup, or publish a new version", ErrDigest, e.Version)
	}
	return ParseManifest(raw)
}

// entry returns the entry of version for changing it, nil if there is none.
func (x *Index) entry(version string) *IndexEntry {
	for i := range x.Releases {
		if x.Releases[i].Version == version {
			return &x.Releases[i]
		}
	}
	return nil
}
