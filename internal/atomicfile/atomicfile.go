// Package atomicfile writes files so that a power cut at any instant leaves
// either the old content or the new, never a mixture and never nothing.
//
// Every function but Replace returns only after the data and the directory
// entry are on disk (fsync of both). Temporary files carry the prefix TempPrefix; a crash
// may leave one behind, and RemoveTemp deletes them.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// TempPrefix starts the name of every temporary file and link of this
// package, so that a crash's leftovers can be told from real content.
const TempPrefix = ".tmp-"

// Write replaces path with data and permission bits perm.
func Write(path string, data []byte, perm fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), TempPrefix+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	err = fill(f, data, perm)
	if err == nil {
		err = f.Sync()
	}
	if err := place(f, path, err); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Replace is Write for what means nothing after the machine has been started
// anew, such as a record of a process: it does not wait for the disk. The death
// of this process leaves the old content or the new; a power cut may besides
// leave an empty file, or none.
func Replace(path string, data []byte, perm fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), TempPrefix+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	return place(f, path, fill(f, data, perm))
}

func fill(f *os.File, data []byte, perm fs.FileMode) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Chmod(perm)
}

// place closes f and makes it path, or removes it if that or something before
// has failed.
func place(f *os.File, path string, before error) error {
	err := errors.Join(before, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// Symlink makes path a symbolic link to target, replacing a link that is
// there already by one rename(2).
func Symlink(target, path string) error {
	tmp := filepath.Join(filepath.Dir(path), fmt.Sprintf("%s%s-%d", TempPrefix, filepath.Base(path), os.Getpid()))
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(path))
}

// Rename moves from to to within one directory and makes the move durable.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// RemoveTemp deletes what interrupted writes left in dir. What another process
// deletes meanwhile is gone as well.
func RemoveTemp(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), TempPrefix) {
			continue
		}
		if gone := os.Remove(filepath.Join(dir, e.Name())); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// Read returns the whole of a regular file of at most limit bytes. A FIFO in its
// place does not hold it up.
func Read(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("want %s to be a regular file, found %s", path, info.Mode().Type())
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}
