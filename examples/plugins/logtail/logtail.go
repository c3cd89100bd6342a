package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

// maxFiles bounds the open files and the cursor's length.
const maxFiles = 256

// logtail implements sdk.Plugin.
type logtail struct {
	manifest []byte // its settings

	mu      sync.Mutex
	problem error
}

// record is one line as it is delivered. Bytes that are not UTF-8 arrive as
// U+FFFD.
type record struct {
	Time   time.Time `json:"time"` // when it was read
	Source string    `json:"source"`
	Path   string    `json:"path"`
	Offset int64     `json:"offset"`
	Text   string    `json:"text"`
	// Cut marks a part of a line that was too long; the next record goes on.
	Cut bool `json:"cut,omitempty"`
}

// Start checks the manifest's settings.
func (p *logtail) Start(_ context.Context, manifest []byte) error {
	p.manifest = manifest
	_, err := parseSettings(manifest)
	return err
}

// Health reports files that match and cannot be read.
func (p *logtail) Health(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

// Stop has nothing to release: the files belong to the tasks.
func (p *logtail) Stop(context.Context) error { return nil }

// Execute follows the files from the task's cursor on.
func (p *logtail) Execute(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	at, err := parseCursor(task.Cursor)
	if err != nil {
		return err
	}
	// The task's payload, if any, goes before the manifest's settings.
	settings, err := parseSettings(p.manifest, task.Payload)
	if err != nil {
		return err
	}
	f := &follower{settings: settings, send: send}
	defer f.close()
	if at != nil {
		err = f.resume(at)
	}
	tick := time.NewTicker(settings.interval)
	defer tick.Stop()
	for first := at == nil; ; first = false {
		err = errors.Join(err, f.look(first && settings.Start == "end"))
		problem, ended := f.drain(ctx)
		if ended != nil {
			return ended
		}
		p.mu.Lock()
		p.problem, err = errors.Join(err, problem), nil
		p.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follower is the state of one task.
type follower struct {
	settings settings
	send     func(sdk.Result) error
	files    []*file // in the order in which they were found
}

func (f *follower) close() {
	for _, t := range f.files {
		_ = t.f.Close()
	}
}

// resume finds the files of a cursor again, by inode: under their path or,
// if they were rotated, under another name in the same directory.
func (f *follower) resume(at *cursor) error {
	var errs []error
	for _, p := range at.Files {
		t, err := find(p)
		if err != nil {
			errs = append(errs, err)
		}
		if t != nil {
			f.files = append(f.files, t)
		}
	}
	return errors.Join(errs...)
}

func find(p place) (*file, error) {
	names := []string{p.Path}
	entries, err := os.ReadDir(filepath.Dir(p.Path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		names = append(names, filepath.Join(filepath.Dir(p.Path), e.Name()))
	}
	for _, name := range names {
		fi, err := os.Stat(name)
		if err != nil {
			continue
		}
		if dev, inode := identity(name, fi); dev != p.Dev || inode != p.Inode {
			continue
		}
		t, err := openFile(name)
		if err != nil {
			return nil, err
		}
		if same, err := p.same(t.f, fi.Size()); err != nil || !same {
			// Another file has got the inode; if it matches a pattern it is
			// found as a new one.
			return nil, errors.Join(err, t.f.Close())
		}
		t.place = p
		return t, nil
	}
	return nil, nil //nolint:nilnil // it was deleted
}

// look finds files that match and are not followed yet.
func (f *follower) look(atEnd bool) error {
	var errs []error
	for _, t := range f.files {
		t.seen = false
	}
	for _, pattern := range f.settings.Paths {
		paths, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, path := range paths {
			errs = append(errs, f.follow(path, atEnd))
		}
	}
	return errors.Join(errs...)
}

func (f *follower) follow(path string, atEnd bool) error {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // rotated away this moment
	}
	if err != nil || !fi.Mode().IsRegular() {
		return err
	}
	dev, inode := identity(path, fi)
	if f.knows(dev, inode) {
		return nil
	}
	if len(f.files) >= maxFiles {
		return fmt.Errorf("%s is not followed: more than %d files match; narrow the patterns", path, maxFiles)
	}
	t, err := openFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if f.knows(t.Dev, t.Inode) { // renamed since the Stat
		return t.f.Close()
	}
	if atEnd {
		if err := t.skip(fi.Size()); err != nil {
			return errors.Join(err, t.f.Close())
		}
	}
	t.seen = true
	f.files = append(f.files, t)
	return nil
}

// knows reports whether the file is followed already, and marks it as seen.
func (f *follower) knows(dev, inode uint64) bool {
	for _, t := range f.files {
		if t.Dev == dev && t.Inode == inode {
			t.seen = true
			return true
		}
	}
	return false
}

// drain sends what all files have, and lets go of those that are finished.
// problem tells of files that could not be read, err of the task's end.
func (f *follower) drain(ctx context.Context) (problem, err error) {
	var problems []error
	for _, t := range slices.Clone(f.files) {
		// Its writer may hold it open for a while after the renaming.
		before, gone := t.Offset, t.gone()
		last := gone && !t.left.IsZero() && time.Since(t.left) >= f.settings.linger
		var ended error
		err := t.read(f.settings.MaxLine, last, func(l line) error {
			if ended = ctx.Err(); ended == nil {
				ended = f.emit(t, l)
			}
			return ended
		})
		if ended != nil {
			return nil, ended
		}
		if err != nil {
			problems = append(problems, err)
		} else if last && t.Offset == before {
			_ = t.f.Close()
			f.files = slices.DeleteFunc(f.files, func(o *file) bool { return o == t })
		}
		switch {
		case !gone:
			t.left = time.Time{}
		case t.left.IsZero() || t.Offset != before:
			t.left = time.Now()
		}
	}
	return errors.Join(problems...), nil
}

func (f *follower) emit(t *file, l line) error {
	payload, err := json.Marshal(record{
		Time: time.Now().UTC(), Source: "logtail", Path: t.Path, Offset: l.offset, Text: string(l.text), Cut: l.cut,
	})
	if err != nil {
		return err
	}
	at := cursor{Schema: 1}
	for _, o := range f.files {
		at.Files = append(at.Files, o.place)
	}
	text, err := at.String()
	if err != nil {
		return err
	}
	return f.send(sdk.Result{Payload: payload, Cursor: text})
}
