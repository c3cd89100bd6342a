// Package lastgood keeps the last good content of files that others replace
// while the process lives.
package lastgood

import (
	"os"
	"time"
)

// Part is what belongs together in one or more files. Its methods may not be
// called concurrently.
type Part[T any] struct {
	paths []string
	read  func(inUse T) (T, error)
	equal func(a, b T) bool

	value   T
	err     error // of the last read
	changes int
	seen    []os.FileInfo
	seenAt  time.Time
}

// New returns the part of paths. read is given the value in use, at first the
// zero value; equal tells whether a value that was read is another one.
// Without paths the value stays zero and read is never called.
func New[T any](read func(inUse T) (T, error), equal func(a, b T) bool, paths ...string) *Part[T] {
	return &Part[T]{paths: paths, read: read, equal: equal}
}

// settled is the age from which on a file's time of change tells it from its
// next version: clocks of file systems are coarse.
const settled = 2 * time.Second

// again is how long an error is taken for an answer: what it was about may have
// been mended without a change of the file, as by chmod, or have passed by
// itself, as a lack of descriptors does.
const again = time.Second

// Current returns the newest value that was in order, how often it was
// replaced by another, the first included, and what is wrong with the files as
// they are now. It reads them where they have changed, and after an error again
// in a second.
func (p *Part[T]) Current() (value T, changes int, err error) {
	if len(p.paths) == 0 {
		return p.value, 0, nil
	}
	// Looked at before reading: what changes in between is read once more.
	now, infos := time.Now(), make([]os.FileInfo, len(p.paths))
	for i, path := range p.paths {
		infos[i], _ = os.Stat(path) // reading tells the error
	}
	if !p.same(now, infos) {
		value, err := p.read(p.value)
		if p.err = err; err == nil {
			if p.changes == 0 || !p.equal(value, p.value) {
				p.changes++
			}
			p.value = value
		}
		p.seen, p.seenAt = infos, now
	}
	return p.value, p.changes, p.err
}

// same reports whether what was last read is what would be read now.
func (p *Part[T]) same(now time.Time, infos []os.FileInfo) bool {
	if p.moved(infos) || p.err != nil && now.Sub(p.seenAt) >= again {
		return false
	}
	for _, info := range infos {
		if info == nil || p.seenAt.Sub(info.ModTime()).Abs() < settled {
			return false
		}
	}
	return true
}

// moved reports whether any file looks different than at the last read.
func (p *Part[T]) moved(infos []os.FileInfo) bool {
	if p.seen == nil {
		return true
	}
	for i, now := range infos {
		was := p.seen[i]
		if (was == nil) != (now == nil) {
			return true
		}
		if now != nil && (!os.SameFile(was, now) || !was.ModTime().Equal(now.ModTime()) || was.Size() != now.Size()) {
			return true
		}
	}
	return false
}
