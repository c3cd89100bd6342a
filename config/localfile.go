package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/internal/boundedio"
)

// localFiles are the documents of this host. They are looked at and not
// subscribed to: stat tells the same about every file system, and about the
// links that container platforms swap.
type localFiles struct {
	paths    []string
	maxBytes int
	// used and last are what stat said when the files were read, and at the
	// last look.
	used, last map[string]stamp
}

// stamp is by what a change of a file is noticed; its zero value is that of
// one that is not there.
type stamp struct {
	size     int64
	modified time.Time
	err      string
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return stamp{}
	case err != nil:
		return stamp{err: err.Error()}
	}
	return stamp{size: info.Size(), modified: info.ModTime()}
}

// read returns the documents of the files that exist.
func (l *localFiles) read() []document {
	l.used = make(map[string]stamp, len(l.paths))
	var docs []document
	for _, path := range l.paths {
		l.used[path] = stampOf(path)
		data, err := readLocal(path, l.maxBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		docs = append(docs, document{Key: path, Data: data, local: true, err: err})
	}
	l.last = l.used
	return docs
}

// changed looks at the files and reports whether they differ from what was
// read and have rested since the look before: one that is still being written
// may be a valid half.
func (l *localFiles) changed() bool {
	now := make(map[string]stamp, len(l.paths))
	differ, rested := false, true
	for _, path := range l.paths {
		now[path] = stampOf(path)
		differ = differ || now[path] != l.used[path]
		rested = rested && now[path] == l.last[path]
	}
	l.last = now
	return differ && rested
}

// follow sends the documents whenever the files have changed, until ctx ends.
func (l *localFiles) follow(ctx context.Context, every time.Duration, to chan<- []document) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if l.changed() {
				send(ctx, to, l.read())
			}
		case <-ctx.Done():
			return
		}
	}
}

func readLocal(path string, maxBytes int) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a FIFO would block
		return nil, fmt.Errorf("%s is %s: want a file", path, info.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := boundedio.ReadAll(f, info.Size(), int64(maxBytes))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// absolute makes the paths so: the directory that a process is in may change.
func absolute(paths []string) ([]string, error) {
	var list []string
	for _, path := range paths {
		if path == "" {
			return nil, errors.New("config: a path in Files is empty")
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("config file %s: %w", path, err)
		}
		list = append(list, abs)
	}
	return list, nil
}
