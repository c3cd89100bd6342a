// Package spool keeps newline-delimited JSON records durably in a directory.
//
// Guarantees. When Append returns nil, the records are on disk: the data was
// fsynced, and so was the directory entry of a file that is new. When Append
// returns an error, nothing of that call has been acknowledged, and the file
// was cut back to its last good offset. One fsync serves every Append that
// waited for it (group commit); an Append on an idle spool waits for nobody.
//
// Files. Every open Spool writes files of its own, named
// <UTC time>-<pid>-<n>.ndjson, and never appends to one that it did not
// create, so that several processes can write into one directory at once. A
// crash may leave a torn last line, which was never acknowledged: Read skips
// it. Nothing here deletes records: that is the business of whoever collects
// the files.
//
// Not guaranteed: that the records of a failed Append are absent. If neither
// the write nor the cut succeeds, complete lines may stay; a caller that
// retries stores them twice. A Stream does guarantee it, to a writer who can
// begin again from a mark.
package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perennial-go/perennial/examples/internal/durable"
)

// DefaultMaxFileBytes is the size at which a file is closed and the next one
// begun, if the Config names none.
const DefaultMaxFileBytes = 64 << 20

// ErrClosed is returned by Append after Close.
var ErrClosed = errors.New("the spool is closed")

// Config says where a Spool writes.
type Config struct {
	// Dir is the directory of the files. New creates it, mode 0700.
	Dir string
	// MaxFileBytes is the size from which on a file is closed and the next
	// one begun; a file exceeds it by one group of appends at most. Default
	// DefaultMaxFileBytes.
	MaxFileBytes int64
}

// Spool appends records to files in one directory. It is safe for concurrent
// use and has no goroutine of its own.
type Spool struct {
	dir      string
	maxBytes atomic.Int64
	records  atomic.Int64
	failed   atomic.Bool // the last append was not stored

	mu   sync.Mutex
	open *group // takes members until its leader holds commit; nil if none does

	commit sync.Mutex // held by the one group that writes
	file   *segment   // nil until the first append and after a rotation

	closed atomic.Bool
	files  atomic.Int64 // named by this Spool
	sync   func(*os.File) error
	step   func(name string) // where tests kill the process
}

// group is a set of appends that one write and one fsync make durable.
type group struct {
	data []byte
	n    int
	err  error // read after done
	done chan struct{}
}

// New creates the directory, durably, and returns a Spool that has written
// no file yet.
func New(cfg Config) (*Spool, error) {
	if cfg.Dir == "" {
		return nil, errors.New("spool: want a directory, found none: set Config.Dir")
	}
	if cfg.MaxFileBytes < 0 {
		return nil, fmt.Errorf("spool: want a MaxFileBytes above 0 (or 0 for %d), found %d", DefaultMaxFileBytes, cfg.MaxFileBytes)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", cfg.Dir, err)
	}
	if err := durable.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("spool: the directory %s cannot be made: %w", dir, err)
	}
	s := &Spool{dir: dir, sync: (*os.File).Sync, step: func(string) {}}
	s.SetMaxFileBytes(cfg.MaxFileBytes)
	return s, nil
}

// SetMaxFileBytes changes Config.MaxFileBytes from the next append on; 0 or
// less means the default.
func (s *Spool) SetMaxFileBytes(n int64) {
	if n <= 0 {
		n = DefaultMaxFileBytes
	}
	s.maxBytes.Store(n)
}

// Records returns how many records this Spool has made durable.
func (s *Spool) Records() int64 { return s.records.Load() }

// Append stores a batch and returns once it is on disk. It cannot be
// cancelled: by the time a caller lost interest the records may be written.
func (s *Spool) Append(b Batch) error {
	if b.n == 0 {
		return nil
	}
	g, leader := s.join(b)
	if !leader {
		<-g.done
		return g.err
	}
	// The group before this one is being synced while others join this one:
	// the wait for its fsync is the batching window, and there is no other.
	s.commit.Lock()
	s.mu.Lock()
	s.open = nil
	s.mu.Unlock()
	g.err = s.write(g.data)
	if g.err == nil {
		s.records.Add(int64(g.n))
	}
	s.failed.Store(g.err != nil)
	s.commit.Unlock()
	close(g.done)
	return g.err
}

// join adds b to the open group, or opens one and makes the caller its
// leader, who has to commit it.
func (s *Spool) join(b Batch) (g *group, leader bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = &group{data: slices.Clip(b.data), n: b.n, done: make(chan struct{})}
		return s.open, true
	}
	s.open.data = append(s.open.data, b.data...)
	s.open.n += b.n
	return s.open, false
}

// write makes data durable. The caller holds commit.
func (s *Spool) write(data []byte) error {
	if s.closed.Load() {
		return ErrClosed
	}
	for s.file == nil {
		f, err := createSegment(filepath.Join(s.dir, s.name(Extension)), s.sync)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return s.failure(data, err)
		}
		s.file = f
	}
	if err := s.file.append(data); err != nil {
		if s.file.broken {
			// After a failed fsync nobody knows which pages reached the disk
			// (a second fsync would report success): never write there again.
			err = errors.Join(err, s.file.close())
			s.file = nil
		}
		return s.failure(data, err)
	}
	if s.file.size >= s.maxBytes.Load() {
		// The data is durable already, so a failing close loses nothing and
		// must not turn an acknowledged append into an error.
		_ = s.file.close()
		s.file = nil
	}
	return nil
}

// name returns the name of a new file. One that is taken, by a pid that came
// back within the second, as pid 1 does in a container, is passed over by
// asking again.
func (s *Spool) name(end string) string {
	return fmt.Sprintf("%s-%d-%06d%s", time.Now().UTC().Format("20060102T150405Z"), os.Getpid(), s.files.Add(1)-1, end)
}

func (s *Spool) failure(data []byte, err error) error {
	return fmt.Errorf("spool %s: %d bytes of records could not be made durable and are not stored; make sure that its file system is writable and has free space: %w", s.dir, len(data), err)
}

// Check returns nil if the last append was stored, and otherwise what keeps
// a small file from being made durable beside the spool's: whoever takes a
// failing spool out of service learns from it when to put it back.
func (s *Spool) Check() error {
	if !s.failed.Load() {
		return nil
	}
	s.release()
	probe := filepath.Join(s.dir, fmt.Sprintf(".probe-%d", os.Getpid()))
	err := durable.WriteFile(probe, make([]byte, probeBytes))
	if err != nil {
		return fmt.Errorf("spool %s cannot be written: %w", s.dir, err)
	}
	return os.Remove(probe)
}

// release lets go of the current file if somebody has deleted it to make
// room: its space is not free before it is closed.
func (s *Spool) release() {
	if !s.commit.TryLock() {
		return // an append is at it and will notice by itself
	}
	defer s.commit.Unlock()
	if s.file != nil && s.file.present() != nil {
		s.file.broken = true
		_ = s.file.close() // there is nothing in it that anybody can still read
		s.file = nil
	}
}

// probeBytes is room for more than a handful of records.
const probeBytes = 64 << 10

// Close waits for the appends in progress and closes the current file, which
// it deletes if it is empty. Later appends, also those of its streams, return
// ErrClosed; a second Close does nothing.
func (s *Spool) Close() error {
	s.commit.Lock()
	defer s.commit.Unlock()
	s.closed.Store(true)
	if s.file == nil {
		return nil
	}
	err := s.file.close()
	s.file = nil
	return err
}
