package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// logs are the files that keep what plugins write, NAME.log and, older,
// NAME.log.1 and so on. They outlive the host: its successor goes on in them.
type logs struct {
	dir   string
	bytes int64 // at which a file is rotated
	files int   // how many there are of one plugin, the current one included

	mu   sync.Mutex
	open map[string]*logFile
}

// logFile is shared by the generations of one plugin: while one drains, the
// next one writes already.
type logFile struct {
	set  *logs
	name string
	path string
	refs int // guarded by set.mu

	mu   sync.Mutex
	f    *os.File // nil before the first line, and after a failure
	size int64
}

// file returns the plugin's file. Every call wants its close.
func (s *logs) file(name string) *logFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.open[name]
	if l == nil {
		l = &logFile{set: s, name: name, path: filepath.Join(s.dir, name+".log")}
		if s.open == nil {
			s.open = map[string]*logFile{}
		}
		s.open[name] = l
	}
	l.refs++
	return l
}

// paths returns the plugin's files that exist, newest first.
func (s *logs) paths(name string) []string {
	l := logFile{set: s, path: filepath.Join(s.dir, name+".log")}
	var found []string
	for n := range s.files {
		if fi, err := os.Lstat(l.numbered(n)); err == nil && fi.Mode().IsRegular() {
			found = append(found, l.numbered(n))
		}
	}
	return found
}

// numbered is the path of the n-th file, 0 for the current one.
func (l *logFile) numbered(n int) string {
	if n == 0 {
		return l.path
	}
	return fmt.Sprintf("%s.%d", l.path, n)
}

// write appends one line, which ends with its newline. A line is never split
// over two files.
func (l *logFile) write(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.append(line)
	if err != nil {
		l.shut() // the next line tries anew
	}
	return err
}

func (l *logFile) append(line []byte) error {
	if l.f == nil {
		if err := l.reopen(); err != nil {
			return err
		}
	}
	if l.size > 0 && l.size+int64(len(line)) > l.set.bytes {
		l.shut()
		if err := l.rotate(); err != nil {
			return err
		}
		if err := l.reopen(); err != nil {
			return err
		}
	}
	n, err := l.f.Write(line)
	l.size += int64(n)
	return err
}

func (l *logFile) reopen() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	size, err := completeLine(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f, l.size = f, size
	return nil
}

// completeLine ends a line that a full disk or a power cut has cut short, which
// the next one would be taken for the rest of, and returns the file's size.
func completeLine(f *os.File) (int64, error) {
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 || !fi.Mode().IsRegular() {
		return 0, err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, fi.Size()-1); err != nil || last[0] == '\n' {
		return fi.Size(), err
	}
	n, err := f.Write([]byte{'\n'})
	return fi.Size() + int64(n), err
}

// rotate renames from the oldest on: a crash in between leaves a gap in the
// numbers, and no line is lost but those of the oldest file.
func (l *logFile) rotate() error {
	if l.set.files <= 1 {
		return os.Remove(l.path)
	}
	for n := l.set.files - 2; n >= 0; n-- {
		err := os.Rename(l.numbered(n), l.numbered(n+1))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (l *logFile) shut() {
	if l.f != nil {
		_ = l.f.Close() // every line was written at once
		l.f = nil
	}
}

// close gives the file up.
func (l *logFile) close() {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.refs--
	if l.refs > 0 {
		return
	}
	delete(l.set.open, l.name)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut()
}
