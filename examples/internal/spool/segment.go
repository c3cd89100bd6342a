package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/perennial-go/perennial/examples/internal/durable"
)

// Extension ends the name of every file of a spool.
const Extension = ".ndjson"

// segment is one file that this process created.
type segment struct {
	path   string
	f      *os.File
	size   int64 // durable bytes; what lies beyond is not acknowledged
	broken bool
	sync   func(*os.File) error
}

// createSegment makes a file that did not exist.
func createSegment(path string, sync func(*os.File) error) (*segment, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	// Without its directory entry a synced file is lost in a power cut.
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return &segment{path: path, f: f, sync: sync}, nil
}

// append writes data behind the durable bytes and syncs it. On failure the
// file is cut back; broken says that it must not be used again.
func (s *segment) append(data []byte) error {
	if _, err := s.f.WriteAt(data, s.size); err != nil {
		return errors.Join(err, s.cut())
	}
	if err := s.sync(s.f); err != nil {
		s.broken = true
		return errors.Join(err, s.cut())
	}
	if err := s.present(); err != nil {
		s.broken = true
		return err
	}
	s.size += int64(len(data))
	return nil
}

func (s *segment) cut() error {
	if err := s.f.Truncate(s.size); err != nil {
		s.broken = true
		return fmt.Errorf("the file could not be cut back to its last good offset %d: %w", s.size, err)
	}
	return nil
}

// present tells whether the name still leads to the open file: what is
// written to a file that somebody has deleted is gone, however well synced.
func (s *segment) present() error {
	named, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("the file being written was deleted or moved away: %w", err)
	}
	open, err := s.f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(named, open) {
		return fmt.Errorf("the file being written, %s, was replaced by another", s.path)
	}
	return nil
}

func (s *segment) close() error {
	err := s.f.Close()
	if s.size == 0 && !s.broken {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}
