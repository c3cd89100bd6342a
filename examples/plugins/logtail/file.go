package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"
)

// file is one file that is being followed. It stays open across renaming, so
// that its inode cannot become another's.
type file struct {
	place
	f *os.File

	// seen is when it had been modified at the last look. It becomes Modified once
	// the file has been read to its end after that.
	seen int64
	// first is what it began with when it was inspected. Before anything of a
	// file was read, nothing else tells that it was truncated.
	first beginning

	name    string // a path that led to it at the last look, "" if none did
	matched bool   // that path is one that a pattern leads to
	size    int64
	dirty   bool // it has changed and was not read since
	held    int  // bytes at the end that are no complete record yet
	told    bool // that a line was too long
	deleted bool
	// quiet is since when it has not been modified, as far as was seen.
	quiet time.Time
}

var (
	errIrregular = errors.New("not a regular file")
	errReplaced  = errors.New("another file has come to its path")
)

// open opens what path names, and stands at its beginning. It must be what
// was seen there.
func open(path string, seen fs.FileInfo) (*file, error) {
	if !seen.Mode().IsRegular() {
		return nil, errIrregular // a pipe would block
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && identity(path, fi) != identity(path, seen) {
		err = errReplaced
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	was := identity(path, fi)
	t := &file{f: f, name: path, dirty: true, quiet: time.Now()}
	t.place = place{Path: path, Dev: was.dev, Inode: was.inode, Modified: fi.ModTime().UnixNano()}
	t.size, t.seen = fi.Size(), t.Modified
	if t.first, err = t.peek(); err != nil {
		return nil, errors.Join(err, t.f.Close())
	}
	return t, nil
}

// beginning is the CRC-32 of the first n bytes, at most printBytes.
type beginning struct {
	n   int
	sum uint32
}

func (b beginning) of(text []byte) bool {
	return len(text) >= b.n && crc32.ChecksumIEEE(text[:b.n]) == b.sum
}

func (t *file) peek() (beginning, error) {
	head, err := t.head(printBytes)
	return beginning{n: len(head), sum: crc32.ChecksumIEEE(head)}, err
}

// head are the first n bytes, or all that there are.
func (t *file) head(n int) ([]byte, error) {
	buf := make([]byte, n)
	n, err := t.f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: its beginning cannot be read: %w", t.Path, err)
	}
	return buf[:n], nil
}

// resume goes on at a place of the file.
func (t *file) resume(p place) { t.place, t.first = p, beginning{} }

// same reports whether a file of that size has only grown since it was read, or
// inspected, last.
func (t *file) same(size int64) (bool, error) {
	if t.Offset > 0 {
		return t.in(t.f, size)
	}
	head, err := t.head(t.first.n)
	return err == nil && t.first.of(head), err
}

// inspected reports whether there is anything by which to tell what the file
// held.
func (t *file) inspected() bool { return t.Offset > 0 || t.first.n > 0 }

// moved reports whether a file was not where it had been seen.
func moved(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errReplaced)
}

// saw notes what a look has found of the file.
func (t *file) saw(fi fs.FileInfo, now time.Time) {
	t.deleted = unlinked(fi)
	if modified := fi.ModTime().UnixNano(); modified != t.seen || fi.Size() != t.size {
		t.seen, t.size, t.dirty, t.quiet = modified, fi.Size(), true, now
	}
}

// astray reports whether the file is not where it was found.
func (t *file) astray() bool { return t.name != t.Path }

// expected is what may still come, by how long nothing has.
func (t *file) expected(now time.Time, s *settings) more {
	still := now.Sub(t.quiet)
	switch {
	case t.astray() && still >= s.linger:
		return moreNone
	case s.Multiline != nil && still >= s.wait:
		return moreLate
	}
	return moreSoon
}

// done reports whether there is nothing left to read, now.
func (t *file) done() bool { return !t.dirty && t.held == 0 }

// skip moves to the end, but not into the middle of a line that is being
// written, unless that is longer than maxBytes.
func (t *file) skip(maxBytes int) error {
	from := max(0, t.size-int64(maxBytes))
	buf, err := t.bytes(from, t.size)
	if err != nil {
		return err
	}
	end := int64(bytes.LastIndexByte(buf, '\n') + 1)
	if end == 0 && from > 0 {
		end = t.size
	}
	return t.seek(from + end)
}

// seek moves to offset, which the file must reach.
func (t *file) seek(offset int64) error {
	n := min(offset, printBytes)
	head, err := t.bytes(0, n)
	if err != nil {
		return err
	}
	tail, err := t.bytes(offset-n, offset)
	if err != nil {
		return err
	}
	t.Offset = offset
	t.fingerprint = fingerprint{
		Head: crc32.ChecksumIEEE(head), HeadLen: n,
		Tail: crc32.ChecksumIEEE(tail), TailLen: n,
	}
	return nil
}

// bytes are those from one offset to another.
func (t *file) bytes(from, to int64) ([]byte, error) {
	buf := make([]byte, to-from)
	if _, err := io.ReadFull(io.NewSectionReader(t.f, from, to-from), buf); err != nil {
		return nil, fmt.Errorf("%s: bytes %d to %d cannot be read: %w", t.Path, from, to, err)
	}
	return buf, nil
}
