package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// maxExecutableBytes bounds what is copied for one plugin.
const maxExecutableBytes = 1 << 30

// depot keeps private copies of executables, named by their sha256. What runs
// is always such a copy: a file that is swapped or written to in the plugins
// directory after the check has no effect on what was checked.
type depot struct{ dir string }

// admit makes sure of a sound copy of the executable at path, and that the
// digest of both is want.
func (d *depot) admit(path, want string) error {
	if d.check(want) != nil {
		return d.deposit(path, want)
	}
	return checkFile(path, want)
}

// deposit copies the executable at path in, if its digest is want.
func (d *depot) deposit(path, want string) error {
	src, err := openRegular(path)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	tmp, got, err := copyHashed(src, d.dir, 0o500)
	if err != nil {
		return err
	}
	if got != want {
		return errors.Join(digestError(path, want, got), os.Remove(tmp))
	}
	return atomicfile.Rename(tmp, d.path(want))
}

func (d *depot) path(sum string) string { return filepath.Join(d.dir, ExecutableName(sum)) }

// check hashes the copy again: a damaged disk must not run either.
func (d *depot) check(sum string) error { return checkFile(d.path(sum), sum) }

// open returns the copy, hashed through the very descriptor.
func (d *depot) open(sum string) (*os.File, error) {
	path := d.path(sum)
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	if err := checkContent(f, path, sum); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// collect deletes copies that are not in keep. One that still runs goes on
// running.
func (d *depot) collect(keep map[string]bool) error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		known := false
		for sum := range keep {
			known = known || e.Name() == ExecutableName(sum)
		}
		if known {
			continue
		}
		if rerr := os.Remove(filepath.Join(d.dir, e.Name())); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

func digestError(path, want, got string) error {
	return fmt.Errorf("%w: %s: wanted sha256 %s as its manifest says, found %s; copy the executable that belongs to the manifest, or correct the manifest's sha256", ErrDigest, path, want, got)
}

func checkFile(path, want string) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return checkContent(f, path, want)
}

func checkContent(f *os.File, path, want string) error {
	got, err := digestOf(f)
	if err == nil && got != want {
		err = digestError(path, want, got)
	}
	return err
}

func digestOf(f *os.File) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, io.LimitReader(f, maxExecutableBytes))
	return hex.EncodeToString(h.Sum(nil)), err
}

// copyHashed copies src into a new temporary file in dir and returns its path
// and sha256. The file is synced and has permission perm.
func copyHashed(src io.Reader, dir string, perm fs.FileMode) (path, sum string, err error) {
	f, err := os.CreateTemp(dir, atomicfile.TempPrefix+"*")
	if err != nil {
		return "", "", err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(src, maxExecutableBytes+1))
	if err != nil {
		return "", "", err
	}
	if n > maxExecutableBytes {
		return "", "", fmt.Errorf("want an executable of at most %d bytes, found more", maxExecutableBytes)
	}
	if err := f.Chmod(perm); err != nil {
		return "", "", err
	}
	return f.Name(), hex.EncodeToString(h.Sum(nil)), f.Sync()
}
