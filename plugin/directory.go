package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// maxLinks bounds a chain of symbolic links.
const maxLinks = 4

// directory is the plugins directory, opened: what is read through it is in it,
// whatever becomes of its path meanwhile.
type directory struct {
	root *os.Root
	path string
	info fs.FileInfo
}

// openDirectory refuses a directory in which others than its owner decide what
// runs.
func openDirectory(path string) (*directory, error) {
	root, err := os.OpenRoot(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("plugins directory %s does not exist; create it, or run without plugins: %w", path, err)
	}
	if err != nil {
		if fi, serr := os.Stat(path); serr == nil && !fi.IsDir() {
			err = fmt.Errorf("want a directory, found %s", fi.Mode())
		}
		return nil, fmt.Errorf("plugins directory %s: %w", path, err)
	}
	info, err := root.Stat(".")
	if err == nil {
		err = trusted(info)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("plugins directory %s: %w", path, err), root.Close())
	}
	return &directory{root: root, path: path, info: info}, nil
}

func (d *directory) close() error { return d.root.Close() }

// entries lists the directory by name.
func (d *directory) entries() ([]fs.DirEntry, error) { return fs.ReadDir(d.root.FS(), ".") }

// resolve follows name through symbolic links that stay in the directory, and
// describes the file at their end.
func (d *directory) resolve(name string) (string, fs.FileInfo, error) {
	at := name
	for range maxLinks {
		fi, err := d.root.Lstat(at)
		if err != nil {
			return "", nil, err
		}
		if fi.Mode().Type() != fs.ModeSymlink {
			return at, fi, nil
		}
		target, err := d.root.Readlink(at)
		if err != nil {
			return "", nil, err
		}
		if strings.ContainsAny(target, `/\`) || target == "." || target == ".." {
			return "", nil, fmt.Errorf("%s: it is a symbolic link out of the plugins directory, to %.200q; put the file itself into the directory, or link to a name in it", name, target)
		}
		at = target
	}
	return "", nil, fmt.Errorf("%s: want at most %d symbolic links in a row, found more", name, maxLinks)
}

// open opens a regular file that nobody but its owner can write to, and that
// belongs to root or to the host's user. It never blocks.
func (d *directory) open(name string) (*os.File, fs.FileInfo, error) {
	at, named, err := d.resolve(name)
	if err != nil {
		return nil, nil, err
	}
	// A device may do something when it is opened.
	if !named.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: want a regular file, found %s", name, kind(named.Mode()))
	}
	f, err := d.root.OpenFile(at, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	switch {
	case err != nil:
	case !os.SameFile(named, fi):
		err = fmt.Errorf("%s: it was replaced while it was opened", name)
	default:
		if err = trusted(fi); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, fi, nil
}

// read returns the content of a file that open accepts, of at most limit bytes.
func (d *directory) read(name string, limit int64) ([]byte, error) {
	f, _, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readAll(f, name, limit)
}

// print describes files as they are listed: another print is another content,
// owner or mode.
func (d *directory) print(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		at, fi, err := d.resolve(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			b.WriteString("absent;")
		case err != nil:
			fmt.Fprintf(&b, "%v;", err)
		default:
			fmt.Fprintf(&b, "%s %s;", at, stamp(fi))
		}
	}
	return b.String()
}

// stamp tells one content of a file from another as far as its metadata does.
func stamp(fi fs.FileInfo) string {
	return fmt.Sprintf("%d %d %s %s", fi.Size(), fi.ModTime().UnixNano(), fi.Mode(), inode(fi))
}

// kind names what is not a regular file.
func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "something of mode " + m.String()
}
