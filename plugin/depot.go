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
	"sync"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// maxExecutableBytes bounds what is copied for one plugin.
const maxExecutableBytes = 1 << 30

// depot keeps private copies of executables, named by their sha256. What runs
// is always such a copy, through the descriptor that was hashed: a file that is
// swapped or written to in the plugins directory after the check has no effect
// on what was checked.
//
// A power cut may tear a copy, for it is not synced: it is hashed before its
// first use in each life of the host, and made anew if it does not hold.
type depot struct {
	dir string
	// files keeps a copy that is being made from being collected.
	files sync.RWMutex

	mu    sync.Mutex
	sound map[string]string // the stamps of copies that this host has hashed
}

// admit makes sure of a sound copy of the executable src, read from its
// beginning, and that the digest of both is want. path is what to call it.
func (d *depot) admit(src *os.File, path, want string) error {
	f, err := d.open(want)
	if err != nil {
		return d.deposit(src, path, want)
	}
	return errors.Join(checkContent(src, path, want), f.Close())
}

// deposit copies src in, if its digest is want.
func (d *depot) deposit(src *os.File, path, want string) error {
	d.files.RLock()
	defer d.files.RUnlock()
	tmp, got, err := copyHashed(src, d.dir, 0o500, false)
	if err != nil {
		return err
	}
	if got != want {
		return errors.Join(digestError(path, want, got), os.Remove(tmp))
	}
	if err := os.Rename(tmp, d.path(want)); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	fi, err := os.Stat(d.path(want))
	if err != nil {
		return err
	}
	d.remember(want, stamp(fi))
	return nil
}

func (d *depot) remember(sum, stamp string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sound == nil {
		d.sound = map[string]string{}
	}
	d.sound[sum] = stamp
}

func (d *depot) remembers(sum, stamp string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sound[sum] == stamp
}

func (d *depot) path(sum string) string { return filepath.Join(d.dir, ExecutableName(sum)) }

// open returns the copy, hashed through the very descriptor unless this host
// has hashed the same file before.
func (d *depot) open(sum string) (*os.File, error) {
	path := d.path(sum)
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !d.remembers(sum, stamp(fi)) {
		if err = checkContent(f, path, sum); err == nil {
			d.remember(sum, stamp(fi))
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// check returns nil if there is a sound copy.
func (d *depot) check(sum string) error {
	f, err := d.open(sum)
	if err != nil {
		return err
	}
	return f.Close()
}

// collect deletes copies that are not in keep. One that still runs goes on
// running.
func (d *depot) collect(keep map[string]bool) error {
	d.files.Lock()
	defer d.files.Unlock()
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for sum := range keep {
		names[ExecutableName(sum)] = true
	}
	for _, e := range entries {
		if names[e.Name()] {
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

// checkContent reads f, which path names, to its end.
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
// and sha256. The file has permission perm, and is synced if it is to last.
func copyHashed(src io.Reader, dir string, perm fs.FileMode, lasting bool) (path, sum string, err error) {
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
	if lasting {
		err = f.Sync()
	}
	return f.Name(), hex.EncodeToString(h.Sum(nil)), err
}
