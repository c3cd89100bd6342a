package spool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Summary is what Read found.
type Summary struct {
	Files   int   `json:"files"`
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// Torn are the last lines without a newline: appends that were in
	// progress when their process was killed, or are now. They were never
	// acknowledged.
	Torn []Flaw `json:"torn,omitempty"`
	// Damaged are complete lines that are no record: after a power cut what
	// an unacknowledged append left, anywhere else a failing disk.
	Damaged []Flaw `json:"damaged,omitempty"`
}

// Flaw is a line that Read skipped.
type Flaw struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Bytes  int64  `json:"bytes"`
}

// Read calls f with every record in dir: files by name, which is the order
// in which they were begun, and each from its beginning. The record is valid
// during the call only; an error of f ends Read, which returns it. Torn and
// damaged lines are skipped and listed. Read may run while others write: it
// then sees a prefix of each file. A directory that does not exist has no
// records.
func Read(dir string, f func(record []byte) error) (Summary, error) {
	var sum Summary
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return sum, nil
	}
	if err != nil {
		return sum, fmt.Errorf("spool: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), Extension) {
			continue
		}
		err := readFile(filepath.Join(dir, e.Name()), f, &sum)
		if errors.Is(err, fs.ErrNotExist) {
			continue // collected, or an empty file that its writer removed
		}
		if err != nil {
			return sum, err
		}
		sum.Files++
	}
	return sum, nil
}

func readFile(path string, f func([]byte) error, sum *Summary) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	r := bufio.NewReaderSize(file, MaxRecordBytes+1)
	var offset int64
	for {
		line, n, err := readLine(r)
		flaw := Flaw{File: path, Offset: offset, Bytes: n}
		offset += n
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("spool: %w", err)
		}
		switch {
		case err != nil && n == 0:
			return nil
		case err != nil:
			sum.Torn = append(sum.Torn, flaw)
			return nil
		case fault(line) != "":
			sum.Damaged = append(sum.Damaged, flaw)
		default:
			sum.Records++
			sum.Bytes += n
			if err := f(line); err != nil {
				return err
			}
		}
	}
}

// readLine returns a line without its newline and how many bytes it took.
// A line that is longer than any record comes back empty. io.EOF means that
// the newline is missing.
func readLine(r *bufio.Reader) (line []byte, n int64, err error) {
	line, err = r.ReadSlice('\n')
	n = int64(len(line))
	if err == nil {
		return line[:len(line)-1], n, nil
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.ReadSlice('\n')
		n += int64(len(line))
	}
	return nil, n, err
}
