package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

// follower is the state of one task.
type follower struct {
	settings settings
	send     func(sdk.Result) error
	log      *slog.Logger

	finder  finder
	files   []*file   // in the order in which they are read
	missing []place   // of the cursor: deleted, or being renamed at the moment
	until   time.Time // when they are looked for no longer
	sought  int       // how often they were looked for
	// waiting are files that may be copies which are not complete yet, and
	// since when.
	waiting  map[id]time.Time
	problems []error
	batch    *batch
	buf      []byte
}

func newFollower(s settings, log *slog.Logger, send func(sdk.Result) error) *follower {
	return &follower{
		settings: s, send: send, log: log,
		finder: finder{patterns: s.Paths}, waiting: map[id]time.Time{},
		batch: newBatch(), buf: make([]byte, printBytes+readBytes),
	}
}

func (f *follower) close() { closeAll(f.files) }

func closeAll(files []*file) {
	for _, t := range files {
		_ = t.f.Close()
	}
}

// candidate is a file that is not followed yet.
type candidate struct {
	path   string // that leads to it
	family string // the path that it was, if that is another
	fi     fs.FileInfo
}

func (c *candidate) id() id { return identity(c.path, c.fi) }

// look finds what has changed: files that are new, were renamed, truncated,
// copied or deleted. Problems of files are noted; they end no task.
func (f *follower) look(atEnd bool) {
	now := time.Now()
	f.problems = nil
	f.find(now)
	since := f.modified()
	scanned := !f.finder.fresh(now)
	if scanned {
		f.finder.scan(now)
	}
	f.problem(f.finder.problem)
	found, leads := f.visit(now)
	for _, t := range slices.Clone(f.files) {
		f.inspect(t, since, now)
	}
	// Of a log that was rotated more than once since the last look, only the
	// last file has its name.
	for path, modified := range since {
		if at, there := leads[path]; there && f.known(at) != nil || !there && !scanned {
			continue
		}
		list, ok := f.successors(path, modified)
		if !ok {
			// Were the one at the path followed now, the others would not be
			// looked for any more.
			found = slices.DeleteFunc(found, func(c candidate) bool { return c.path == path })
			continue
		}
		found = append(list, found...)
	}
	f.adopt(found, atEnd, now)
	f.drop(now)
}

func (f *follower) problem(err error) {
	if err != nil {
		f.problems = append(f.problems, err)
	}
}

// modified is, for each path at which a file was found, when the last of them
// had been modified at the last look. What the path was renamed to since has
// been modified later.
func (f *follower) modified() map[string]int64 {
	since := map[string]int64{}
	for _, t := range f.files {
		since[t.Path] = max(since[t.Path], t.Modified)
	}
	for _, p := range f.missing {
		since[p.Path] = max(since[p.Path], p.Modified)
	}
	return since
}

// visit looks at every file once, and returns those that are not followed
// yet, and which file each path leads to.
func (f *follower) visit(now time.Time) (found []candidate, leads map[string]id) {
	leads = make(map[string]id, len(f.finder.paths))
	for _, t := range f.files {
		t.name, t.matched = "", false
	}
	for _, path := range f.finder.paths {
		fi, err := os.Stat(path)
		if err != nil {
			if !absent(err) {
				f.problem(err)
			}
			continue
		}
		if !fi.Mode().IsRegular() {
			continue
		}
		at := identity(path, fi)
		leads[path] = at
		t := f.known(at)
		if t == nil {
			found = append(found, candidate{path: path, family: path, fi: fi})
			continue
		}
		// Several paths may lead to it: that by which it is known counts.
		if !t.matched || path == t.Path {
			t.name, t.matched = path, true
		}
		t.saw(fi, now)
	}
	for _, t := range f.files {
		if t.matched {
			continue
		}
		fi, err := t.f.Stat()
		if err != nil {
			f.problem(err)
			continue
		}
		t.saw(fi, now)
	}
	return found, leads
}

// known is the followed file of that identity.
func (f *follower) known(at id) *file {
	for _, t := range f.files {
		if t.id() == at {
			return t
		}
	}
	return nil
}

// adopt follows what was found, the oldest first.
func (f *follower) adopt(found []candidate, atEnd bool, now time.Time) {
	slices.SortStableFunc(found, older)
	var fresh []candidate
	waiting := map[id]time.Time{}
	for _, c := range found {
		if f.known(c.id()) != nil {
			continue // under another name, or found twice
		}
		if since, waits := f.waits(c, now); waits {
			waiting[c.id()] = since
			continue
		}
		fresh = append(fresh, c)
	}
	f.waiting = waiting
	if over := min(f.makeRoom(len(fresh), now), len(fresh)); over > 0 {
		f.problem(fmt.Errorf("%d files are not followed, such as %s: more than %d match; narrow the patterns or raise max_files", over, fresh[0].path, f.settings.MaxFiles))
		fresh = fresh[over:] // the newest are what is written to
	}
	moving := map[string]bool{} // paths whose files were renamed meanwhile
	for _, c := range fresh {
		if moving[c.family] || f.known(c.id()) != nil {
			continue
		}
		err := f.follow(c, atEnd)
		if moved(err) {
			// The next look finds it, as long as no newer one is followed.
			moving[c.family] = true
			continue
		}
		f.problem(err)
	}
}

func (f *follower) follow(c candidate, atEnd bool) error {
	t, err := open(c.path, c.fi)
	if err != nil {
		return err
	}
	t.Path = c.family
	if !f.recall(t) && atEnd {
		err = t.skip(f.settings.MaxLine)
	}
	if err != nil {
		return errors.Join(err, t.f.Close())
	}
	f.files = append(f.files, t)
	return nil
}

// recall goes on with t where the cursor was, if it is of the cursor and was not
// found before: it was being renamed when it was looked for.
func (f *follower) recall(t *file) (recalled bool) {
	f.missing = slices.DeleteFunc(f.missing, func(p place) bool {
		if p.id() != t.id() {
			return false
		}
		if same, err := p.in(t.f, t.size); err == nil && same {
			t.resume(p)
			recalled = true
		}
		return true // whoever follows t tells of it from now on
	})
	return recalled
}

// drop lets go of files that were deleted.
func (f *follower) drop(now time.Time) {
	f.files = slices.DeleteFunc(f.files, func(t *file) bool {
		if !t.deleted || !t.done() || now.Sub(t.quiet) < f.settings.linger {
			return false
		}
		_ = t.f.Close()
		return true
	})
}

// makeRoom is for n more files. It forgets some that no pattern leads to and
// that have been read, those that have been modified longest ago first, and
// returns for how many there is no room all the same.
func (f *follower) makeRoom(n int, now time.Time) (over int) {
	over = len(f.files) + len(f.missing) + n - f.settings.MaxFiles
	if over <= 0 {
		return 0
	}
	var old []*file
	for _, t := range f.files {
		if !t.matched && t.done() && now.Sub(t.quiet) >= f.settings.linger {
			old = append(old, t)
		}
	}
	slices.SortStableFunc(old, func(a, b *file) int { return cmp.Compare(a.Modified, b.Modified) })
	old = old[:min(over, len(old))]
	closeAll(old)
	f.files = slices.DeleteFunc(f.files, func(t *file) bool { return slices.Contains(old, t) })
	return over - len(old)
}

// resume goes on from a cursor.
func (f *follower) resume(at *cursor, now time.Time) {
	f.until = now.Add(max(f.settings.linger, leastSearch))
	for _, p := range at.Files {
		if f.settings.wants(p.Path) {
			f.missing = append(f.missing, p)
		}
	}
}

// leastSearch is how long, and leastSearches how often at least, files of a
// cursor are looked for: one that is renamed while its directory is read may not
// be found at once, and time passes too while this process is stopped.
const (
	leastSearch   = 2 * time.Second
	leastSearches = 3
)

// find looks for the missing files, by inode: under their path or, if they were
// renamed, under another name in the same directory.
func (f *follower) find(now time.Time) {
	if len(f.missing) == 0 {
		return
	}
	f.sought++
	dirs := map[string]map[id]string{}
	var found []*file
	f.missing = slices.DeleteFunc(f.missing, func(p place) bool {
		t, err := locate(p, dirs)
		if err != nil && !moved(err) {
			f.problem(err)
		}
		if t == nil {
			return now.After(f.until) && f.sought >= leastSearches
		}
		found = append(found, t)
		return true
	})
	f.files = append(found, f.files...) // they are older than what was found since
}

// locate opens the file of a place; nil if it is not found.
func locate(p place, dirs map[string]map[id]string) (*file, error) {
	path := p.Path
	fi, err := os.Stat(path)
	if err != nil || identity(path, fi) != p.id() {
		var there bool
		if path, there = byIdentity(filepath.Dir(home(p.Path)), dirs)[p.id()]; !there {
			return nil, nil //nolint:nilnil // it was deleted
		}
		if fi, err = os.Stat(path); err != nil {
			return nil, err
		}
	}
	if identity(path, fi) != p.id() {
		return nil, errReplaced
	}
	t, err := open(path, fi)
	if err != nil {
		return nil, err
	}
	if path != p.Path {
		// Another file may have got the inode. One at the path itself has been
		// truncated, as the look finds.
		if same, err := p.in(t.f, t.size); err != nil || !same {
			return nil, errors.Join(err, t.f.Close())
		}
	}
	t.resume(p)
	return t, nil
}

// byIdentity lists a directory, once.
func byIdentity(dir string, dirs map[string]map[id]string) map[id]string {
	if files, ok := dirs[dir]; ok {
		return files
	}
	files := map[id]string{}
	list, _ := names(dir) // what cannot be read the next look tells
	for _, name := range list {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && !compressed(name) {
			files[identity(path, fi)] = path
		}
	}
	dirs[dir] = files
	return files
}

// home is the file that a path leads to, also through links.
func home(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	return path
}
