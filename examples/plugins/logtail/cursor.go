package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// headBytes of a file tell it from a later one with the same inode, and show
// that it was truncated and has grown past the old place since.
const headBytes = 256

// cursor is where every file has been read up to.
type cursor struct {
	Schema int     `json:"schema"`
	Files  []place `json:"files"`
}

// place is a position in one file.
type place struct {
	Path   string `json:"path"`
	Dev    uint64 `json:"dev"`
	Inode  uint64 `json:"inode"`
	Offset int64  `json:"offset"`
	// Head is the CRC-32 of the first HeadLen bytes.
	Head    uint32 `json:"head"`
	HeadLen int64  `json:"head_len"`
}

func parseCursor(s string) (*cursor, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no cursor is not an error
	}
	var c cursor
	if err := json.Unmarshal([]byte(s), &c); err != nil {
		return nil, fmt.Errorf("cursor: want what this plugin sent with a result, found %.80q: %w; forget it to begin anew", s, err)
	}
	if c.Schema != 1 {
		return nil, fmt.Errorf("cursor: schema: want 1, found %d; it is of another version of this plugin", c.Schema)
	}
	for _, p := range c.Files {
		if p.Offset < 0 || p.HeadLen < 0 || p.HeadLen > headBytes {
			return nil, fmt.Errorf("cursor: %q: offset %d and head_len %d cannot be; forget the cursor to begin anew", p.Path, p.Offset, p.HeadLen)
		}
	}
	return &c, nil
}

func (c *cursor) String() (string, error) {
	data, err := json.Marshal(c)
	return string(data), err
}

// same reports whether f is the file that p was taken in, grown or unchanged.
func (p *place) same(f *os.File, size int64) (bool, error) {
	if size < p.Offset || size < p.HeadLen {
		return false, nil
	}
	sum, err := head(f, p.HeadLen)
	return err == nil && sum == p.Head, err
}

func head(f *os.File, n int64) (uint32, error) {
	buf := make([]byte, n)
	if _, err := f.ReadAt(buf, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return crc32.ChecksumIEEE(buf), nil
}
