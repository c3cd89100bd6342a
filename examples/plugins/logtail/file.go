package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// file is one file that is being followed. It stays open across renaming.
type file struct {
	place
	f    *os.File
	seen bool      // a pattern led to it at the last look
	left time.Time // since when nothing has led to it and it has not grown
}

// line is one record's worth.
type line struct {
	offset int64
	text   []byte
	cut    bool // longer than allowed: more of the same line follows
}

// openFile opens what path names, and stands at its beginning.
func openFile(path string) (*file, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errIrregular // a pipe would block
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fi, err = f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	dev, inode := identity(path, fi)
	return &file{place: place{Path: path, Dev: dev, Inode: inode}, f: f}, nil
}

var errIrregular = errors.New("not a regular file")

// read hands over the complete lines after the offset, each after having
// moved the offset past it, until there are no more. With last, an unfinished
// line at the end of the file counts as complete: nobody will finish it.
func (t *file) read(maxLine int, last bool, take func(line) error) error {
	fi, err := t.f.Stat()
	if err != nil {
		return err
	}
	same, err := t.same(t.f, fi.Size())
	if err != nil {
		return err
	}
	if !same {
		t.Offset, t.Head, t.HeadLen = 0, 0, 0 // truncated: another text begins
	}
	buf := make([]byte, 0, maxLine+1)
	for {
		n, err := t.f.ReadAt(buf[:cap(buf)], t.Offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return nil
		}
		rest := buf[:n]
		for len(rest) > 0 {
			l, used := cutLine(rest, maxLine)
			if used == 0 {
				break // the line goes on beyond what was read
			}
			if err := t.advance(l, used, take); err != nil {
				return err
			}
			rest = rest[used:]
		}
		if len(rest) == n { // not one line
			if !last || !errors.Is(err, io.EOF) {
				return nil
			}
			return t.advance(line{text: rest}, len(rest), take)
		}
	}
}

// cutLine takes the first line off, or a part of one that is too long.
func cutLine(b []byte, maxLine int) (line, int) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 && i <= maxLine {
		return line{text: bytes.TrimSuffix(b[:i], []byte("\r"))}, i + 1
	}
	if len(b) > maxLine {
		return line{text: b[:maxLine], cut: true}, maxLine
	}
	return line{}, 0
}

// skip moves to the end, which is at size.
func (t *file) skip(size int64) error {
	n := min(size, headBytes)
	sum, err := head(t.f, n)
	if err != nil {
		return err
	}
	t.Offset, t.Head, t.HeadLen = size, sum, n
	return nil
}

// gone reports whether no path leads to the file any more, as far as can be
// told: a directory that cannot be read tells nothing.
func (t *file) gone() bool {
	if t.seen {
		return false
	}
	fi, err := os.Stat(t.Path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	dev, inode := identity(t.Path, fi)
	return dev != t.Dev || inode != t.Inode
}

func (t *file) advance(l line, used int, take func(line) error) error {
	l.offset = t.Offset
	t.Offset += int64(used)
	if t.HeadLen < headBytes {
		n := min(t.Offset, headBytes)
		sum, err := head(t.f, n)
		if err != nil {
			return err
		}
		t.Head, t.HeadLen = sum, n
	}
	return take(l)
}
