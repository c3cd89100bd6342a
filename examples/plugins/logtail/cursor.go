package main

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
)

const (
	cursorSchema = 1
	// maxCursor bounds a cursor: maxFiles places whose paths are as long as
	// paths can be.
	maxCursor = 8 << 20
	// printBytes is how much of a file's beginning, and of what lies before
	// the offset, tells it from another.
	printBytes = 256
)

// cursor is where every file has been read up to.
type cursor struct {
	Schema int     `json:"schema"`
	Files  []place `json:"files"`
}

// place is a position in one file.
type place struct {
	// Path is where the file was found first: it may have been renamed since.
	Path   string `json:"path"`
	Dev    uint64 `json:"dev"`
	Inode  uint64 `json:"inode"`
	Offset int64  `json:"offset"`
	// Modified is when the file had been written last before it was read to its
	// end, in nanoseconds since 1970: a copy that is older holds nothing else.
	Modified int64 `json:"modified"`
	fingerprint
}

// fingerprint tells a file that has grown since from one that was truncated, from
// another with the same inode, and a copy from a file that only begins alike:
// it is the CRC-32 of the first HeadLen bytes and of the TailLen bytes before
// the offset.
type fingerprint struct {
	Head    uint32 `json:"head"`
	HeadLen int64  `json:"head_len"`
	Tail    uint32 `json:"tail"`
	TailLen int64  `json:"tail_len"`
}

// id is what stays the same when a file is renamed.
type id struct{ dev, inode uint64 }

func (p *place) id() id { return id{p.Dev, p.Inode} }

func parseCursor(s string) (*cursor, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no cursor is not an error
	}
	if len(s) > maxCursor {
		return nil, fmt.Errorf("cursor: want at most %d bytes, found %d; forget it to begin anew", maxCursor, len(s))
	}
	var c cursor
	if err := json.Unmarshal([]byte(s), &c); err != nil {
		return nil, fmt.Errorf("cursor: want what this plugin sent with a result, found %.80q: %w; forget it to begin anew", s, err)
	}
	if c.Schema != cursorSchema {
		return nil, fmt.Errorf("cursor: schema: want %d, found %d; it is of another version of this plugin", cursorSchema, c.Schema)
	}
	if len(c.Files) > mostFiles {
		return nil, fmt.Errorf("cursor: want at most %d files, found %d; forget the cursor to begin anew", mostFiles, len(c.Files))
	}
	seen := map[id]bool{}
	for _, p := range c.Files {
		switch {
		case !filepath.IsAbs(p.Path), p.Offset < 0, p.HeadLen != min(p.Offset, printBytes), p.TailLen != p.HeadLen:
			return nil, fmt.Errorf("cursor: %q: offset %d, head_len %d and tail_len %d cannot be; forget the cursor to begin anew", p.Path, p.Offset, p.HeadLen, p.TailLen)
		case seen[p.id()]:
			return nil, fmt.Errorf("cursor: %q is there twice; forget the cursor to begin anew", p.Path)
		}
		seen[p.id()] = true
	}
	return &c, nil
}

func (c *cursor) String() (string, error) {
	data, err := json.Marshal(c)
	return string(data), err
}

// in reports whether f holds what p was taken in, grown or unchanged.
func (p *place) in(f io.ReaderAt, size int64) (bool, error) {
	if size < p.Offset {
		return false, nil
	}
	for _, part := range []struct {
		at, n int64
		sum   uint32
	}{{0, p.HeadLen, p.Head}, {p.Offset - p.TailLen, p.TailLen, p.Tail}} {
		buf := make([]byte, part.n)
		// Zeros for what is not there any more give another sum.
		if _, err := f.ReadAt(buf, part.at); err != nil && err != io.EOF { //nolint:errorlint // as io.ReaderAt says
			return false, err
		}
		if crc32.ChecksumIEEE(buf) != part.sum {
			return false, nil
		}
	}
	return true, nil
}

// move makes offset the place; before are the bytes that lie before it, at
// least printBytes of them or all that there are.
func (p *place) move(offset int64, before []byte) {
	if p.HeadLen < printBytes { // then before is all that there is
		p.HeadLen = min(offset, printBytes)
		p.Head = crc32.ChecksumIEEE(before[:p.HeadLen])
	}
	p.Offset, p.TailLen = offset, min(offset, printBytes)
	p.Tail = crc32.ChecksumIEEE(before[int64(len(before))-p.TailLen:])
}

// begin makes the beginning of the file the place.
func (p *place) begin() { p.Offset, p.fingerprint = 0, fingerprint{} }
