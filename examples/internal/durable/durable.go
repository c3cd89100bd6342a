// Package durable replaces files so that a power cut leaves the old content
// or the new one.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteFile replaces path with data, mode 0600, and returns once both the
// data and the directory entry are on disk. An interrupted call may leave a
// file beside it whose name begins with ".tmp-".
func WriteFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-"+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(filepath.Dir(path))
}

// MakeDir makes dir, mode 0700, and its entry durable. It does nothing if
// dir is there; its parent must be.
func MakeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		if info, statErr := os.Stat(dir); statErr == nil && info.IsDir() {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(dir))
}
