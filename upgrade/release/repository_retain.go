package release

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// signatureRetention is how long the signature of an earlier index stays,
// after it was replaced, for readers that have just read that index.
const signatureRetention = 24 * time.Hour

// retain writes the signatures of the document that is about to be replaced
// once more: prune goes by when a file was written, and these may be months
// old. The time alone could be set by the file's owner only, and publishers
// may be several users.
func (r *Repository) retain(what, path string, limit int64) error {
	document, err := atomicfile.Read(r.file(path), limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	dir := what + "/sha256/"
	entries, err := os.ReadDir(r.file(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), sha256Hex(document)) {
			continue
		}
		signature, err := atomicfile.Read(r.file(dir+e.Name()), maxSignatureSize)
		if err != nil {
			return err
		}
		if err := r.write(dir+e.Name(), signature); err != nil {
			return err
		}
	}
	return nil
}

// prune deletes signatures of indexes or keyrings that no reader can be about
// to want; those whose names begin with keep stay.
func (r *Repository) prune(what, keep string) error {
	dir := filepath.Join(r.cfg.Dir, what, "sha256")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || strings.HasPrefix(e.Name(), keep) || time.Since(info.ModTime()) < signatureRetention {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
