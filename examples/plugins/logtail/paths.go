package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// rescanEvery is how often directories are read that do not seem to have
	// changed: on some file systems they never do.
	rescanEvery = 10 * time.Second
	// coarse is how long a directory may change again without a new time.
	coarse = 2 * time.Second
	// mostDirectories bounds what patterns such as /*/*/*.log read.
	mostDirectories = 1024
)

// finder knows what the patterns lead to. While no directory changes, a look
// costs one stat for each.
type finder struct {
	patterns []string
	paths    []string
	problem  error
	dirs     map[string]time.Time // read for the patterns, when modified
	at       time.Time
	lists    map[string][]string // of one scan
}

// fresh reports whether the last scan is still right, as far as can be told.
func (f *finder) fresh(now time.Time) bool {
	if f.dirs == nil || now.Sub(f.at) >= rescanEvery {
		return false
	}
	for dir, modified := range f.dirs {
		if f.at.Sub(modified) < coarse || !modifiedAt(dir).Equal(modified) {
			return false
		}
	}
	return true
}

// modifiedAt is the zero time for what is not there.
func modifiedAt(dir string) time.Time {
	fi, err := os.Stat(dir)
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}

// scan expands the patterns.
func (f *finder) scan(now time.Time) {
	f.at, f.paths, f.problem = now, nil, nil
	f.dirs, f.lists = map[string]time.Time{}, map[string][]string{}
	seen := map[string]bool{}
	for _, pattern := range f.patterns {
		for _, path := range f.expand(pattern) {
			if !seen[path] && !compressed(path) {
				seen[path] = true
				f.paths = append(f.paths, path)
			}
		}
	}
	f.lists = nil
}

// expand is filepath.Glob, except that, as in a shell, a * does not match
// hidden names, that a directory stands for the files in it, and that what
// cannot be read is told.
func (f *finder) expand(pattern string) []string {
	pattern = filepath.Clean(pattern)
	if !magic(pattern) {
		f.watch(filepath.Dir(pattern))
		if fi, err := os.Stat(pattern); err == nil && fi.IsDir() {
			return f.match(pattern, "*")
		}
		return []string{pattern}
	}
	dir, name := filepath.Split(pattern)
	dirs := []string{filepath.Clean(dir)}
	if magic(dir) {
		dirs = f.expand(dir)
	}
	var paths []string
	for _, dir := range dirs {
		paths = append(paths, f.match(dir, name)...)
	}
	return paths
}

func magic(path string) bool { return strings.ContainsAny(path, `*?[\`) }

// match is the paths in dir whose names match.
func (f *finder) match(dir, pattern string) []string {
	var paths []string
	for _, name := range f.list(dir) {
		if strings.HasPrefix(name, ".") && !strings.HasPrefix(pattern, ".") {
			continue
		}
		if ok, _ := filepath.Match(pattern, name); ok { // the settings were checked
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths
}

func (f *finder) list(dir string) []string {
	if names, ok := f.lists[dir]; ok {
		return names
	}
	if !f.watch(dir) {
		return nil
	}
	names, err := names(dir)
	if err != nil && !absent(err) {
		f.problem = errors.Join(f.problem, err)
	}
	f.lists[dir] = names
	return names
}

// watch notes when dir was modified, before it is read.
func (f *finder) watch(dir string) bool {
	if _, ok := f.dirs[dir]; ok {
		return true
	}
	if len(f.dirs) == mostDirectories {
		f.problem = errors.Join(f.problem, fmt.Errorf("%s is not looked into: the patterns lead to more than %d directories; narrow them", dir, mostDirectories))
		return false
	}
	f.dirs[dir] = modifiedAt(dir)
	return true
}

// names are those in a directory, in order.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = e.Name()
	}
	return list, err
}

// absent reports whether a path leads nowhere, as opposed to one that cannot
// be looked at.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
