package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// Limits of a tree.
const (
	maxEntries = 200_000
	maxDepth   = 40
)

// errUnfit is of files that are not read for what they are.
var errUnfit = errors.New("not fit to be read")

// tree is a directory that nothing is read outside of.
type tree struct {
	given   string // as the user wrote it
	root    *os.Root
	exclude []string
}

func openTree(dir string, exclude []string) (*tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &tree{given: dir, root: root, exclude: exclude}, nil
}

func (t *tree) close() { _ = t.root.Close() }

// shown is name as it is told to the user.
func (t *tree) shown(name string) string {
	return path.Join(filepath.ToSlash(t.given), name)
}

// whole is name with all directories that it is in, as far as they can be told.
func (t *tree) whole(name string) string {
	dir, err := filepath.Abs(t.given)
	if err != nil {
		dir = t.given
	}
	return path.Join(filepath.ToSlash(dir), name)
}

// excluded reports whether a pattern leaves name out.
func (t *tree) excluded(name string) bool {
	for _, pattern := range t.exclude {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
		if ok, _ := path.Match(pattern, path.Base(name)); ok {
			return true
		}
	}
	return false
}

// foreign names directories of what others wrote, or git itself.
func foreign(name string) bool {
	switch path.Base(name) {
	case ".git", ".hg", ".svn", "node_modules", "vendor", ".venv", "venv", ".terraform", "__pycache__":
		return true
	}
	return false
}

// walk calls f with each regular file, in order.
func (t *tree) walk(ctx context.Context, report *Report, f func(name string) error) error {
	entries := 0
	return fs.WalkDir(t.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", t.shown(name), ctx.Err())
		case err != nil:
			report.fail(t.shown(name), err)
			return fs.SkipDir // it is a directory: the others are looked at
		}
		if entries++; entries > maxEntries {
			return fmt.Errorf("%s has more than %d files and directories: audit parts of it, or leave some out with --exclude", t.given, maxEntries)
		}
		switch {
		case name != "." && (t.excluded(name) || d.IsDir() && foreign(name)):
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.IsDir() && strings.Count(name, "/") >= maxDepth:
			report.leave(t.shown(name), fmt.Sprintf("deeper than %d directories", maxDepth))
			return fs.SkipDir
		case d.Type()&fs.ModeSymlink != 0:
			report.leave(t.shown(name), "symbolic link")
		case d.Type().IsRegular():
			return f(name)
		}
		return nil
	})
}

// open opens a regular file for reading. What else there is (a pipe without a
// writer) would block without O_NONBLOCK.
func (t *tree) open(name string) (*os.File, error) {
	return regular(t.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0))
}

// regular is what was opened, if that is a regular file: names can change before
// they are opened.
func regular(f *os.File, err error) (*os.File, error) {
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: no regular file", errUnfit)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// read returns the content, which must be text of at most limit bytes.
func (t *tree) read(name string, limit int64) ([]byte, error) {
	f, err := t.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(raw)) > limit:
		return nil, fmt.Errorf("%w: it has more than %d bytes", errUnfit, limit)
	case bytes.IndexByte(raw, 0) >= 0:
		return nil, fmt.Errorf("%w: it is no text", errUnfit)
	}
	return raw, nil
}

// has reports whether there is a regular file of that name.
func (t *tree) has(name string) bool {
	info, err := t.root.Lstat(name)
	return err == nil && info.Mode().IsRegular()
}

// hasShebang reports whether a file begins as a shell script does.
func (t *tree) hasShebang(name string) (bool, error) {
	f, err := t.open(name)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 128)
	n, _ := io.ReadFull(f, head)
	line, _, _ := strings.Cut(string(head[:n]), "\n")
	return shellOf(line) != "", nil
}
