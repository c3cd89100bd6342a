package release

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/filelock"
	"github.com/perennial-go/perennial/internal/ident"
)

// abandoned is the age at which a part that nobody writes is deleted.
const abandoned = 24 * time.Hour

// evict deletes what was used longest ago until the rest fits into MaxBytes.
// Entries that somebody reads, and the one called spare, stay.
func (c *Cache) evict(root *os.Root, spare string) error {
	entries, err := fs.ReadDir(root.FS(), contentDir)
	if err != nil {
		return err
	}
	var total int64
	var whole []fs.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // another process has just deleted it, or it is nobody's
		}
		switch {
		case ident.SHA256(e.Name()):
			whole = append(whole, info)
		case strings.HasPrefix(e.Name(), partPrefix) && time.Since(info.ModTime()) > abandoned:
			c.remove(root, e.Name())
			continue
		}
		total += info.Size()
	}
	slices.SortFunc(whole, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range whole {
		if total <= c.cfg.MaxBytes {
			break
		}
		if info.Name() != spare && c.remove(root, info.Name()) {
			total -= info.Size()
		}
	}
	return nil
}

// remove deletes a file of the content directory that nobody has locked.
func (c *Cache) remove(root *os.Root, name string) bool {
	name = path.Join(contentDir, name)
	f, _, err := openPlain(root, name)
	if err != nil {
		return false
	}
	err = filelock.Lock(f)
	if err == nil {
		err = root.Remove(name)
	}
	closed := f.Close()
	if err != nil && !filelock.Held(err) {
		c.cfg.Logger.Warn("cached file cannot be deleted", "path", name, "error", errors.Join(err, closed))
	}
	return err == nil
}
