package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// restless is how often a directory is read whose files are being renamed.
const restless = 5

// relatives are the files that path was renamed or copied to, by their names,
// and the one that it leads to, all at one moment: a file that is renamed while
// they are listed might be missed else. Nil if there is no such moment.
func relatives(path string) map[string]fs.FileInfo {
	path = home(path)
	var before map[id]string
	for range restless {
		files, now := map[string]fs.FileInfo{}, map[id]string{}
		list, err := names(filepath.Dir(path))
		if err != nil {
			return nil // the next look tells
		}
		for _, name := range list {
			at := filepath.Join(filepath.Dir(path), name)
			if name != filepath.Base(path) && !rotated(filepath.Base(path), name) {
				continue
			}
			if fi, err := os.Stat(at); err == nil && fi.Mode().IsRegular() {
				files[at], now[identity(at, fi)] = fi, at
			}
		}
		if before != nil && maps.Equal(before, now) {
			return files
		}
		before = now
	}
	return nil
}

// successors are files that had the name path after the one that was modified
// then and before the one that has it now. Not ok says that they cannot be told
// at the moment.
func (f *follower) successors(path string, modified int64) (list []candidate, ok bool) {
	return f.strangers(path, func(c candidate) bool { return c.fi.ModTime().UnixNano() >= modified })
}

// copies are files that path may have been copied to since it was modified then.
// Those that patterns lead to may be older: they would be read as new files.
func (f *follower) copies(path string, modified int64) (list []candidate, ok bool) {
	return f.strangers(path, func(c candidate) bool {
		return c.fi.ModTime().UnixNano() >= modified || f.settings.wants(filepath.Join(filepath.Dir(path), filepath.Base(c.path)))
	})
}

// strangers are the relatives of path that are not followed and of interest.
func (f *follower) strangers(path string, interesting func(candidate) bool) (list []candidate, ok bool) {
	files := relatives(path)
	for at, fi := range files {
		c := candidate{path: at, family: path, fi: fi}
		if at != home(path) && interesting(c) && f.known(c.id()) == nil {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, older)
	return list, files != nil
}

// older orders files by their age: times are coarse, and numbers count up as
// files become older, unless they are dates.
func older(a, b candidate) int {
	if c := a.fi.ModTime().Compare(b.fi.ModTime()); c != 0 {
		return c
	}
	return cmp.Or(-cmp.Compare(number(a.path), number(b.path)), cmp.Compare(a.path, b.path))
}

// number is that of app.log.3; 0 for any other.
func number(path string) int {
	n, err := strconv.ParseUint(strings.TrimPrefix(filepath.Ext(path), "."), 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

// inspect finds out whether a file that has changed has only grown. If it has
// not, it was truncated, and its text may have been copied before, several
// times if this was not noticed between: what of a copy was not read is read
// from there. So is all of the copies of a file of which nothing was read.
func (f *follower) inspect(t *file, since map[string]int64, now time.Time) {
	if !t.dirty {
		return
	}
	same, err := t.same(t.size)
	if err != nil {
		f.problem(err)
		return
	}
	if same && t.inspected() {
		return
	}
	// What is copied and truncated from here on is noticed by what the file
	// begins with now; copies of what was there before exist already.
	first, err := t.peek()
	if err != nil {
		f.problem(err)
		return
	}
	if !t.astray() && !f.followCopies(t, since[t.Path], now) {
		return // it stays dirty
	}
	if !same {
		t.begin()
		t.held = 0
	}
	t.first = first
}

// followCopies follows the copies of what t held. Not ok says that they cannot be
// told at the moment.
func (f *follower) followCopies(t *file, since int64, now time.Time) (ok bool) {
	list, ok := f.copies(t.Path, since)
	if !ok {
		return false
	}
	var copies []*file
	for _, c := range list {
		old, err := copied(c, t)
		if moved(err) {
			closeAll(copies)
			return false
		}
		f.problem(err)
		if old != nil {
			copies = append(copies, old)
		}
	}
	if over := f.makeRoom(len(copies), now); over > 0 {
		f.problem(fmt.Errorf("%d copies of %s are not read: more than %d files are followed; raise max_files", over, t.Path, f.settings.MaxFiles))
		over = min(over, len(copies))
		closeAll(copies[:over])
		copies = copies[over:]
	}
	for _, old := range copies {
		f.recall(old) // a copy of what was there before, which was read
	}
	f.files = slices.Insert(f.files, slices.Index(f.files, t), copies...)
	return true
}

// copied opens a copy of what log held, to be read from where that was; nil if
// it is one of what log holds now.
func copied(c candidate, log *file) (*file, error) {
	t, err := open(c.path, c.fi)
	if err != nil {
		return nil, err
	}
	t.Path = c.family
	begun, err := t.begins(log)
	if err == nil && !begun {
		err = t.continues(&log.place)
	}
	if err != nil || begun {
		return nil, errors.Join(err, t.f.Close())
	}
	return t, nil
}

// continues moves to where former was, if the file is a copy of that one.
func (t *file) continues(former *place) error {
	switch same, err := former.in(t.f, t.size); {
	case err != nil:
		return err
	case same:
		t.Offset, t.fingerprint = former.Offset, former.fingerprint
		return nil
	case t.size >= former.Offset:
		return nil
	}
	// A copy that was made before the last lines came, which were read.
	begin := place{fingerprint: fingerprint{Head: former.Head, HeadLen: former.HeadLen}}
	if same, err := begin.in(t.f, t.size); err != nil || !same || t.size < former.HeadLen {
		return err
	}
	return t.seek(t.size)
}

// waits reports whether a file that patterns lead to may be a copy of one that
// is about to be truncated, and since when it has been. One that stays a copy
// is followed from its end.
func (f *follower) waits(c candidate, now time.Time) (since time.Time, waits bool) {
	for _, t := range f.files {
		if t.astray() || filepath.Dir(c.path) != filepath.Dir(t.Path) || !rotated(filepath.Base(t.Path), filepath.Base(c.path)) {
			continue
		}
		if c.fi.Size() == 0 {
			return now, true // one being begun
		}
		if copied, err := copyOf(c, t); err != nil || !copied {
			f.problem(err)
			continue
		}
		since, again := f.waiting[c.id()]
		if !again {
			since = now
		}
		if again && now.Sub(since) >= f.settings.linger && t.Offset >= c.fi.Size() {
			f.problem(f.followEnd(c))
		}
		return since, true
	}
	return now, false
}

// compareBytes of the end of a copy are compared.
const compareBytes = 4096

// copyOf reports whether c holds what t begins with, or t is changing.
func copyOf(c candidate, t *file) (bool, error) {
	other, err := open(c.path, c.fi)
	if moved(err) {
		return true, nil // whatever it is, it is not there to be followed now
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = other.f.Close() }()
	if begun, err := other.begins(t); begun || err != nil {
		return begun, err
	}
	// It may have been truncated this moment.
	fi, err := t.f.Stat()
	if err != nil {
		return false, err
	}
	grown, err := t.same(fi.Size())
	return !grown, err
}

// begins reports whether log begins with what t holds.
func (t *file) begins(log *file) (bool, error) {
	for _, part := range [][2]int64{{0, min(t.size, printBytes)}, {max(0, t.size-compareBytes), t.size}} {
		a, b := make([]byte, part[1]-part[0]), make([]byte, part[1]-part[0])
		n, errA := t.f.ReadAt(a, part[0])
		m, errB := log.f.ReadAt(b, part[0])
		for _, err := range []error{errA, errB} {
			if err != nil && !errors.Is(err, io.EOF) {
				return false, err
			}
		}
		if !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
	}
	return true, nil
}

func (f *follower) followEnd(c candidate) error {
	t, err := open(c.path, c.fi)
	if err != nil {
		return nil //nolint:nilerr // the next look finds it
	}
	t.Path = c.family
	if !f.recall(t) {
		if err := t.seek(t.size); err != nil {
			return errors.Join(err, t.f.Close())
		}
	}
	f.files = append(f.files, t)
	return nil
}
