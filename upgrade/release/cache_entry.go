package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/internal/ctxio"
	"github.com/perennial-go/perennial/internal/filelock"
)

const (
	// contentDir holds the files that are named by their digest.
	contentDir = "sha256"
	// entryMode lets everybody read and execute an entry and nobody write to
	// it: it may be linked to by the slots of other agents.
	entryMode = 0o555
	// usedStep keeps the time of the last use, which is the time of
	// modification, from being written at every use.
	usedStep = time.Hour
)

func entryPath(digest string) string { return path.Join(contentDir, digest) }

// root opens the cache's directory. Nothing that lies in it, such as a
// symbolic link made by another user, leads out of it.
func (c *Cache) root() (*os.Root, error) { return os.OpenRoot(c.cfg.Dir) }

// entry opens a verified entry. The reader holds a shared lock, which spares
// the entry from eviction.
func (c *Cache) entry(ctx context.Context, digest string, offset int64) (io.ReadCloser, int64, error) {
	root, err := c.root()
	if err != nil {
		return nil, 0, err
	}
	f, info, err := c.verified(ctx, root, digest)
	if err == nil {
		c.used(root, digest, f, info)
	}
	return opened(ctx, f, info, offset, errors.Join(err, root.Close()))
}

// verified opens an entry and checks its digest. One that is not what it is
// named is deleted.
func (c *Cache) verified(ctx context.Context, root *os.Root, digest string) (*os.File, fs.FileInfo, error) {
	name := entryPath(digest)
	f, info, err := openPlain(root, name)
	if errors.Is(err, errNotPlain) {
		c.drop(root, digest)
	}
	if err != nil {
		return nil, nil, err
	}
	// An entry that is locked is about to be evicted.
	if err := filelock.LockShared(f); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
	}
	if before, ok := c.known.Load(digest); ok && unchanged(before, info) {
		return f, info, nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, ctxio.Reader(ctx, f)); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		c.drop(root, digest)
		return nil, nil, errors.Join(fmt.Errorf("%w: the entry is sha256:%s: damaged or altered; it is deleted and fetched again", ErrDigest, got), f.Close())
	}
	if guarded(info) {
		c.known.Store(digest, info)
	}
	return f, info, nil
}

// unchanged tells whether a file is the one that was verified. It says so of
// guarded files only: who owns a file can set its time of modification.
func unchanged(before any, now fs.FileInfo) bool {
	then, ok := before.(fs.FileInfo)
	return ok && guarded(now) && os.SameFile(then, now) && then.Size() == now.Size() && then.ModTime().Equal(now.ModTime())
}

// used notes the time, where that is allowed, for the order of eviction. What
// was verified stays so; what was not does not become so.
func (c *Cache) used(root *os.Root, digest string, f *os.File, info fs.FileInfo) {
	before, ok := c.known.Load(digest)
	verified := ok && unchanged(before, info)
	now := time.Now()
	if now.Sub(info.ModTime()) < usedStep || root.Chtimes(entryPath(digest), now, now) != nil {
		return
	}
	if !verified {
		return
	}
	if after, err := f.Stat(); err == nil && guarded(after) {
		c.known.Store(digest, after)
	}
}

// Drop deletes the cached file at path, of which the caller has found that it is
// damaged, so that the next Open reads it from the source. What cannot be deleted
// is at least verified again before it is served.
func (c *Cache) Drop(name string) {
	digest := contentDigest(name)
	if digest == "" {
		return
	}
	root, err := c.root()
	if err != nil {
		c.known.Delete(digest)
		return
	}
	defer func() { _ = root.Close() }()
	c.drop(root, digest)
}

func (c *Cache) drop(root *os.Root, digest string) {
	c.known.Delete(digest)
	// A directory may lie there as well as a file.
	if err := root.RemoveAll(entryPath(digest)); err != nil {
		c.cfg.Logger.Warn("damaged entry cannot be deleted", "digest", digest, "error", err)
	}
}

var errNotPlain = errors.New("not a regular file")

// openPlain opens a regular file and nothing else: no link, also not one
// that is put there between the look and the opening, and no pipe, at which
// it would wait for ever.
func openPlain(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	seen, err := root.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !seen.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: %w but %s", name, errNotPlain, seen.Mode().Type())
	}
	f, info, err := openAtOnce(root, name)
	if err != nil {
		return nil, nil, err
	}
	if !os.SameFile(seen, info) {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w: it changed while it was opened", name, errNotPlain), f.Close())
	}
	return f, info, nil
}

// openAtOnce opens what was a regular file a moment ago. If a pipe has taken its
// place, that is an error and not a wait for whoever writes to it.
func openAtOnce(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|openNoWait, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w but %s", name, errNotPlain, info.Mode().Type())
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// LinkTo makes dst a hard link to the cached file at path, replacing what
// lies there by one rename, and asks nobody. It links only to what this user
// or root owns and nobody else can write to: whoever owns a file can change
// it later. The caller checks the digest of dst, as of everything that a
// source returns.
//
// The error wraps fs.ErrNotExist if the cache does not have the file and
// errors.ErrUnsupported if it cannot be linked to, as from another file
// system: then Open reads it.
func (c *Cache) LinkTo(name, dst string) error {
	digest := contentDigest(name)
	if digest == "" {
		return fmt.Errorf("%s is not named by its digest: %w", name, errors.ErrUnsupported)
	}
	root, err := c.root()
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	f, info, err := openPlain(root, entryPath(digest))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if !guarded(info) {
		return fmt.Errorf("entry %s belongs to another user, or others can write to it: %w", digest, errors.ErrUnsupported)
	}
	if err := filelock.LockShared(f); err != nil {
		return fmt.Errorf("lock entry %s: %w: %w", digest, err, errors.ErrUnsupported)
	}
	c.used(root, digest, f, info)
	return link(filepath.Join(c.cfg.Dir, contentDir, digest), dst, info)
}

// Has reports whether the cache has the file at path, which may still turn out to
// be damaged.
func (c *Cache) Has(name string) bool {
	digest := contentDigest(name)
	if digest == "" {
		return false
	}
	root, err := c.root()
	if err != nil {
		return false
	}
	defer func() { _ = root.Close() }()
	info, err := root.Lstat(entryPath(digest))
	return err == nil && info.Mode().IsRegular()
}

// LinkFrom keeps src, which the caller has verified, as the file at path, by a
// hard link: it is for what was not read from the source as it is, such as the
// binary that a delta made. From then on nobody may write to src, which gets mode
// 0555, synced to disk. A damaged entry that is there is replaced. The error wraps
// errors.ErrUnsupported if src cannot be linked to, as from another file system;
// src is then of use all the same.
func (c *Cache) LinkFrom(ctx context.Context, name, src string) error {
	digest := contentDigest(name)
	if digest == "" || c.cfg.Pull == PullNever {
		return fmt.Errorf("%s is not kept: %w", name, errors.ErrUnsupported)
	}
	if err := c.makeDirs(contentDir); err != nil {
		return err
	}
	root, err := c.root()
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := freeze(src); err != nil {
		return err
	}
	dst := filepath.Join(c.cfg.Dir, contentDir, digest)
	err = os.Link(src, dst)
	if errors.Is(err, fs.ErrExist) {
		// Another process was faster, or what is there is damaged: then it is
		// deleted by the look at it.
		if there, _, failed := c.verified(ctx, root, digest); failed == nil {
			return there.Close()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = os.Link(src, dst)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
	}
	if err := c.syncDir(contentDir); err != nil {
		return err
	}
	return c.evict(root, digest)
}

// freeze makes src what an entry is. The mode has to be on the disk before the
// name: whoever links to an entry takes its mode for durable.
func freeze(src string) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !guarded(info) {
		err = fmt.Errorf("%s belongs to another user, or others can write to it: %w", src, errors.ErrUnsupported)
	}
	if err == nil {
		err = f.Chmod(entryMode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// link links from to dst by way of a temporary name, so that dst is never
// anything but the file that was looked at.
func link(from, dst string, want fs.FileInfo) error {
	tmp := temporaryName(dst)
	if err := os.Link(from, tmp); err != nil {
		return fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
	}
	got, err := os.Lstat(tmp)
	if err == nil && !os.SameFile(got, want) {
		err = fmt.Errorf("%s was replaced while it was linked to: %w", from, errors.ErrUnsupported)
	}
	if err == nil {
		err = os.Rename(tmp, dst)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	// Of two names of one file, rename leaves both.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
