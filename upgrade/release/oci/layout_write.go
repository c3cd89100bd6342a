package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/ctxio"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/filelock"
	"github.com/perennial-go/perennial/upgrade/release"
)

const layoutLock = ".perennial.lock"

// lock makes the directory a layout and keeps other writers of this package
// away until unlock. oras-go's writer is not used: it truncates index.json
// and writes it in place, so that a crash there loses every tag.
func (l *layout) lock() (unlock func() error, err error) {
	if err := l.vacant(); err != nil {
		return nil, err
	}
	blobs := l.blobs()
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(l.path, layoutLock), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s cannot be written: %w", l.path, err)
	}
	if err := filelock.Lock(f); err != nil {
		if filelock.Held(err) {
			err = fmt.Errorf("another process pushes to %s: %w: try again when it has finished", l.path, release.ErrLocked)
		}
		return nil, errors.Join(err, f.Close())
	}
	// With the lock held, temporary files are of dead processes.
	err = errors.Join(atomicfile.RemoveTemp(blobs), atomicfile.RemoveTemp(l.path), l.mark())
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// vacant refuses a directory that is no layout and holds a repository, perhaps
// the very one that is pushed: its index.json would be overwritten.
func (l *layout) vacant() error {
	if _, err := os.Stat(filepath.Join(l.path, ocispec.ImageLayoutFile)); err == nil {
		return nil
	}
	for _, name := range []string{"index.json", "keyring.json", "manifests"} {
		if _, err := os.Lstat(filepath.Join(l.path, name)); err == nil {
			return fmt.Errorf("OCI layout %s: want a layout or a new directory, found %s in it, which is no layout's: give another directory", l.path, name)
		}
	}
	return nil
}

// mark writes the file that makes the directory a layout.
func (l *layout) mark() error {
	path := filepath.Join(l.path, ocispec.ImageLayoutFile)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	raw, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Join(l.path, "blobs"), l.path, filepath.Dir(l.path)} {
		if err := atomicfile.SyncDir(dir); err != nil {
			return err
		}
	}
	return atomicfile.Write(path, raw, 0o644)
}

func (l *layout) blobs() string { return filepath.Join(l.path, "blobs", "sha256") }

// hasBlob implements target.
func (l *layout) hasBlob(_ context.Context, d ocispec.Descriptor) (bool, error) {
	info, err := os.Stat(filepath.Join(l.blobs(), hexOf(d)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Mode().IsRegular(), err
}

// putBlob implements target. A blob appears under its digest whole and
// durable, or not at all.
func (l *layout) putBlob(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) (err error) {
	body, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	tmp, err := os.CreateTemp(l.blobs(), atomicfile.TempPrefix+"blob-*")
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, sum), ctxio.Reader(ctx, io.LimitReader(body, d.Size+1)))
	if got := digestPrefix + hex.EncodeToString(sum.Sum(nil)); err == nil && (got != string(d.Digest) || n != d.Size) {
		err = fmt.Errorf("%w: %s of %d bytes is wanted, found %s of %d bytes", release.ErrDigest, d.Digest, d.Size, got, n)
	}
	if err == nil {
		err = errors.Join(tmp.Chmod(0o644), tmp.Sync())
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	if err := failpoint.Hit("layout.blob"); err != nil {
		return err
	}
	return atomicfile.Rename(tmp.Name(), filepath.Join(l.blobs(), hexOf(d)))
}

// putManifest implements target. The index is replaced as a whole, after
// what it leads to is there. Manifests without a tag are listed only if they
// have a subject: nothing else leads to those.
func (l *layout) putManifest(ctx context.Context, d ocispec.Descriptor, raw []byte, tag string) error {
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	if err := l.putBlob(ctx, d, open); err != nil {
		return err
	}
	var m struct {
		Subject *ocispec.Descriptor `json:"subject"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	if tag == "" && m.Subject == nil {
		return nil
	}
	x, err := l.index(ctx)
	if err != nil {
		return err
	}
	d.Annotations = maps.Clone(d.Annotations)
	if tag != "" {
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		d.Annotations[ocispec.AnnotationRefName] = tag
	}
	x.Manifests = slices.DeleteFunc(x.Manifests, func(old ocispec.Descriptor) bool {
		name := old.Annotations[ocispec.AnnotationRefName]
		return name == tag && (tag != "" || old.Digest == d.Digest)
	})
	x.Manifests = append(x.Manifests, d)
	next, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if err := failpoint.Hit("layout.index"); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(l.path, ocispec.ImageIndexFile), next, 0o644)
}
