package release

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/failpoint"
)

const (
	// documentsDir holds, for each source, what has been kept of it under
	// the path that it has there.
	documentsDir = "documents"
	// superseded is how long the signature of an index that has been
	// replaced stays, for who has just read that index; temporary files stay
	// as long for who has just begun to write them.
	superseded = 24 * time.Hour
)

// errOtherName: the signature beside the index is kept under the digest of
// the index alone, because two files cannot be replaced by one rename.
var errOtherName = fmt.Errorf("the kept index has its signature under its digest: %w", fs.ErrNotExist)

// document opens what Keep has kept of a path.
func (c *Cache) document(ctx context.Context, name string, offset int64) (io.ReadCloser, int64, error) {
	root, err := c.root()
	if err != nil {
		return nil, 0, err
	}
	if name == indexPath+signatureSuffix {
		if _, err := root.Lstat(path.Join(c.index, indexPath)); err == nil {
			return nil, 0, errors.Join(errOtherName, root.Close())
		}
	}
	f, info, err := openPlain(root, path.Join(c.index, name))
	return opened(ctx, f, info, offset, errors.Join(err, root.Close()))
}

// Keep keeps a document that is not named by its digest: an index or a
// signature, after the caller has verified it. What Keep is given is verified
// again by whoever reads it; but with the wrong thing there, PullNever has
// nothing to offer and PullIfNotPresent must ask its source.
//
// An index is to be kept after its signature, and that one under the digest
// of the index, as in a repository. What could not be kept is told to the
// Logger.
func (c *Cache) Keep(name string, data []byte) (kept bool) {
	if checkPath(name) != nil || contentDigest(name) != "" || name == indexPath+signatureSuffix || c.cfg.Pull == PullNever {
		return false
	}
	if c.holds(path.Join(c.index, name), data) {
		return true
	}
	err := c.keep(path.Join(c.index, name), data)
	if err == nil && name == indexPath {
		err = c.forgetSignatures(sha256Hex(data))
	}
	if err != nil {
		c.cfg.Logger.Warn("document is not kept", "path", name, "error", err)
	}
	return err == nil
}

// holds spares the disk: the same index is kept again and again.
func (c *Cache) holds(name string, data []byte) bool {
	root, err := c.root()
	if err != nil {
		return false
	}
	defer func() { _ = root.Close() }()
	f, info, err := openPlain(root, name)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	if info.Size() != int64(len(data)) {
		return false
	}
	there := make([]byte, len(data))
	_, err = io.ReadFull(f, there)
	return err == nil && bytes.Equal(there, data)
}

func (c *Cache) keep(name string, data []byte) error {
	if err := c.makeDirs(path.Dir(name)); err != nil {
		return err
	}
	root, err := c.root()
	if err != nil {
		return err
	}
	err = c.write(root, name, data)
	tidy(root, path.Dir(name), atomicfile.TempPrefix, "")
	return errors.Join(err, root.Close())
}

// forgetSignatures deletes those of indexes that have been replaced.
func (c *Cache) forgetSignatures(current string) error {
	root, err := c.root()
	if err != nil {
		return err
	}
	mine := indexSignaturePath(current)
	tidy(root, path.Join(c.index, path.Dir(mine)), "", path.Base(mine))
	return root.Close()
}

// write is atomicfile.Write inside a root.
func (c *Cache) write(root *os.Root, name string, data []byte) error {
	tmp := path.Join(path.Dir(name), atomicfile.TempPrefix+rand.Text())
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = errors.Join(f.Chmod(0o444), f.Sync())
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = failpoint.Hit("cache.keep")
	}
	if err == nil {
		err = root.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(tmp))
	}
	return c.syncDir(path.Dir(name))
}

// tidy deletes what begins with prefix and is old, except spare: files that a
// killed process has left, signatures of indexes that have been replaced.
// Another user's may stay, and do no harm.
func tidy(root *os.Root, dir, prefix, spare string) {
	entries, err := fs.ReadDir(root.FS(), dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), prefix) && e.Name() != spare && time.Since(info.ModTime()) > superseded {
			_ = root.Remove(path.Join(dir, e.Name()))
		}
	}
}

// makeDirs makes the cache's directory and those of name below it, with the
// mode of the first.
func (c *Cache) makeDirs(name string) error {
	if err := os.MkdirAll(c.cfg.Dir, 0o755); err != nil { //nolint:gosec // agents of other users may read what anyone could download
		return err
	}
	root, err := c.root()
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	dir := ""
	for element := range strings.SplitSeq(name, "/") {
		dir = path.Join(dir, element)
		if err := root.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := root.Chmod(dir, info.Mode()&(fs.ModePerm|fs.ModeSticky|fs.ModeSetgid)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cache) syncDir(name string) error {
	return atomicfile.SyncDir(filepath.Join(c.cfg.Dir, filepath.FromSlash(name)))
}

// temporaryName returns a name beside p that a later start deletes.
func temporaryName(p string) string {
	return filepath.Join(filepath.Dir(p), atomicfile.TempPrefix+filepath.Base(p)+"-"+rand.Text())
}
