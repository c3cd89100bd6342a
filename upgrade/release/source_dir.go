package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/perennial-go/perennial/internal/ctxio"
)

// Dir is a repository in a directory, local or on a network file system. It
// never follows a symbolic link out of the directory and reads regular files
// only.
type Dir struct{ path string }

// NewDir returns a source that reads from a directory. The directory need
// not exist yet.
func NewDir(path string) (*Dir, error) {
	abs, err := directory(path)
	if err != nil {
		return nil, err
	}
	return &Dir{path: abs}, nil
}

// directory returns the absolute path of a repository's directory, which may
// be given as a file:// URL. Any other URL would become a path that begins with
// "https:".
func directory(location string) (string, error) {
	if location == "" {
		return "", errors.New("repository directory is empty: give a path")
	}
	if scheme, rest, ok := strings.Cut(location, "://"); ok {
		u, err := url.Parse(location)
		if err != nil || !strings.EqualFold(scheme, "file") || (u.Host != "" && u.Host != "localhost") || u.Path == "" {
			return "", fmt.Errorf("repository directory: want a path or file:///absolute/path, found %s://%.100s, which is no directory of this host: publish to a directory and copy that to its server", scheme, rest)
		}
		location = u.Path
	}
	abs, err := filepath.Abs(location)
	if err != nil {
		return "", fmt.Errorf("repository directory: %w", err)
	}
	return abs, nil
}

// String returns the absolute path of the directory.
func (d *Dir) String() string { return d.path }

// Open implements Source.
func (d *Dir) Open(ctx context.Context, path string, offset int64) (io.ReadCloser, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if err := checkPath(path); err != nil {
		return nil, 0, err
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, 0, fmt.Errorf("repository: %w", err)
	}
	// A file opened through a root stays usable after the root is closed.
	f, info, err := openRegular(root, filepath.FromSlash(path))
	if err = errors.Join(err, root.Close()); err != nil {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		return nil, 0, fmt.Errorf("repository %s: %w", d.path, err)
	}
	return opened(ctx, f, info, offset, nil)
}

// opened is what a Source returns of a file: its rest from offset on, and its
// size. err is what went wrong before; f may then be nil.
func opened(ctx context.Context, f *os.File, info fs.FileInfo, offset int64, err error) (io.ReadCloser, int64, error) {
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		return nil, 0, err
	}
	return struct {
		io.Reader
		io.Closer
	}{ctxio.Reader(ctx, f), f}, info.Size(), nil
}

// openRegular looks before it opens: opening a device may do something.
func openRegular(root *os.Root, path string) (*os.File, fs.FileInfo, error) {
	info, err := root.Stat(path)
	if err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			failed.Op = "read" // the system call's name helps nobody
		}
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file: put the file itself there")}
	}
	return openAtOnce(root, path)
}
