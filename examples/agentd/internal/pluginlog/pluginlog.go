// Package pluginlog reads the log files of a plugin, and goes on reading while
// they are written and rotated.
package pluginlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

const (
	// maxFiles bounds how many rotated files are looked for.
	maxFiles = 100
	// MaxLine is how many bytes of a line are shown.
	MaxLine = 64 << 10
	// lookEvery is how often Follow looks for more.
	lookEvery = 200 * time.Millisecond
)

// Log is a log in Dir: the file Name, and what was rotated away as Name.1,
// which is the younger, Name.2 and so on.
type Log struct{ Dir, Name string }

// errAbsent is of a log that nobody has written.
func (l Log) errAbsent() error {
	return fmt.Errorf("there is no log %s: %w", filepath.Join(l.Dir, l.Name), fs.ErrNotExist)
}

// Last calls emit with the last n lines, all of them if n is negative. Without
// any file it fails with fs.ErrNotExist.
func (l Log) Last(n int, emit func(line string) error) error {
	files, err := l.open()
	if err != nil {
		return err
	}
	defer closeAll(files)
	if len(files) == 0 {
		return l.errAbsent()
	}
	_, err = last(files, n, emit)
	return err
}

// Follow is Last, and then waits for more until ctx ends, which is no error. A
// log that does not exist yet is waited for. lost is called when files went
// before they were read.
func (l Log) Follow(ctx context.Context, n int, emit func(line string) error, lost func()) error {
	files, err := l.open()
	if err != nil {
		return err
	}
	var at *reader
	if len(files) > 0 {
		at, err = last(files, n, emit)
		closeAll(files[:len(files)-1])
	}
	defer func() { at.close() }()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for err == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			at, err = l.more(at, emit, lost)
		}
	}
	return err
}

// more reads what has come since, and returns the reader to go on with.
func (l Log) more(at *reader, emit func(string) error, lost func()) (*reader, error) {
	// In this order: what a file gets after it was found rotated, it got before
	// the rotation.
	files, err := l.open()
	if err != nil {
		return at, err
	}
	if at != nil {
		if err := at.lines(emit); err != nil {
			closeAll(files)
			return at, err
		}
		known := at.among(files)
		if known == len(files)-1 && known >= 0 {
			closeAll(files)
			return at, at.truncated()
		}
		if err := at.end(emit); err != nil {
			closeAll(files)
			return at, err
		}
		if known < 0 && len(files) > 0 {
			lost()
		}
		at.close()
		at = nil
		closeAll(files[:known+1])
		files = files[known+1:]
	}
	for i, f := range files {
		at = newReader(f)
		if err := at.lines(emit); err != nil {
			closeAll(files[i+1:])
			return at, err
		}
		if i < len(files)-1 {
			if err := at.end(emit); err != nil {
				closeAll(files[i+1:])
				return at, err
			}
			at.close()
		}
	}
	return at, nil
}

// open opens the files of the log, the oldest first.
func (l Log) open() ([]*os.File, error) {
	var files []*os.File
	for i := range maxFiles {
		path := filepath.Join(l.Dir, l.Name)
		if i > 0 {
			path += "." + strconv.Itoa(i)
		}
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			if i == 0 {
				continue // it is being rotated
			}
			break
		}
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s: want a regular file, found %s", path, info.Mode().Type())
		}
		var f *os.File
		if err == nil {
			f, err = os.Open(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			closeAll(files)
			return nil, err
		}
		if len(files) > 0 && sameFile(files[0], f) {
			_ = f.Close() // a rotation has moved it on meanwhile
			continue
		}
		files = append([]*os.File{f}, files...)
	}
	return files, nil
}

func sameFile(a, b *os.File) bool {
	first, err := a.Stat()
	if err != nil {
		return false
	}
	second, err := b.Stat()
	return err == nil && os.SameFile(first, second)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // it was only read
	}
}

// last reads files to their ends and emits the last n lines. It returns the
// reader of the last file.
func last(files []*os.File, n int, emit func(string) error) (at *reader, err error) {
	var ring []string
	keep := func(line string) error {
		switch {
		case n < 0:
			return emit(line)
		case len(ring) < n:
			ring = append(ring, line)
		case n > 0:
			ring = append(ring[1:], line)
		}
		return nil
	}
	for i, f := range files {
		at = newReader(f)
		if err = at.lines(keep); err == nil && i < len(files)-1 {
			err = at.end(keep)
		}
		if err != nil {
			return at, err
		}
	}
	for _, line := range ring {
		if err := emit(line); err != nil {
			return at, err
		}
	}
	return at, nil
}

// reader reads lines from a file that may grow.
type reader struct {
	file *os.File
	buf  *bufio.Reader
	part []byte // of a line whose end has not come
	read int64
}

func newReader(f *os.File) *reader { return &reader{file: f, buf: bufio.NewReader(f)} }

// lines emits what lines there are.
func (r *reader) lines(emit func(string) error) error {
	for {
		chunk, err := r.buf.ReadSlice('\n')
		r.read += int64(len(chunk))
		ended := err == nil
		if ended {
			chunk = chunk[:len(chunk)-1]
		}
		r.part = append(r.part, chunk[:min(len(chunk), MaxLine-len(r.part))]...)
		switch {
		case ended:
			line := string(r.part)
			r.part = r.part[:0]
			if err := emit(line); err != nil {
				return err
			}
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil
		default:
			return err
		}
	}
}

// end emits what is left of a file that does not grow any more.
func (r *reader) end(emit func(string) error) error {
	if err := r.lines(emit); err != nil || len(r.part) == 0 {
		return err
	}
	line := string(r.part)
	r.part = nil
	return emit(line)
}

// truncated begins again with a file that somebody has cut.
func (r *reader) truncated() error {
	info, err := r.file.Stat()
	if err != nil || info.Size() >= r.read {
		return err
	}
	_, err = r.file.Seek(0, io.SeekStart)
	r.buf.Reset(r.file)
	r.part, r.read = nil, 0
	return err
}

// among returns which of files it is that r reads, -1 for none.
func (r *reader) among(files []*os.File) int {
	return slices.IndexFunc(files, func(f *os.File) bool { return sameFile(r.file, f) })
}

func (r *reader) close() {
	if r != nil {
		_ = r.file.Close()
	}
}
