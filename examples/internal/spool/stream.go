package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/perennial-go/perennial/examples/internal/durable"
)

// Stream stores batches for one writer who can begin again from a mark: each
// batch and the mark after it are kept both or not at all, whatever crashes
// in between. A writer that resumes from Mark thus stores every record once.
//
// A stream writes files of its own into the spool's directory. How far they
// count is in its state file; what lies beyond was being stored when the
// process died, and OpenStream cuts it off. Whoever takes files out of the
// directory while the agent runs, or before it has been started again, reads
// the file that the state names up to the length that it names.
//
// One process at a time uses a state file: its callers see to that. A Stream
// is not safe for concurrent use.
type Stream struct {
	spool *Spool
	path  string // of the state
	name  string // of the stream, the end of its files' names
	state streamState
	file  *segment // nil until the first append and after a rotation
	lost  int64
	err   error // of an append, after which the stream is of no use
}

const (
	stateSchema = 1
	// maxStateBytes bounds what is read as a state; a mark has to fit.
	maxStateBytes = 16 << 20
)

// streamState is what a state file holds.
type streamState struct {
	Schema int `json:"schema"`
	// Mark is what the last stored batch came with.
	Mark string `json:"mark"`
	// File is the name of the file that was written last, Bytes how much of
	// it belongs to the mark.
	File  string    `json:"file,omitempty"`
	Bytes int64     `json:"bytes,omitempty"`
	Saved time.Time `json:"saved"`
}

var streamName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// OpenStream opens the stream whose state is in the file path, which need not
// exist; its name without ".json" becomes part of the names of the stream's
// files. Records that were not stored together with a mark are cut off. A
// state that cannot be used is an error and no fresh start, which would store
// everything once more.
func (s *Spool) OpenStream(path string) (*Stream, error) {
	t := &Stream{spool: s, path: path, name: strings.TrimSuffix(filepath.Base(path), ".json")}
	if !streamName.MatchString(t.name) {
		return nil, fmt.Errorf("stream %s: want a file name of letters, digits, dots, dashes and underscores, found %q", path, t.name)
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		t.state, err = parseState(data, t.name)
	}
	if err == nil {
		err = t.cut()
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", path, err)
	}
	return t, nil
}

// parseState refuses a file that is not of the stream name: it will be cut.
func parseState(data []byte, name string) (streamState, error) {
	var st streamState
	if len(data) > maxStateBytes {
		return st, fmt.Errorf("want at most %d bytes, found %d; remove it to begin anew", maxStateBytes, len(data))
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, fmt.Errorf("damaged; remove it to begin anew: %w", err)
	}
	if st.Schema != stateSchema {
		return st, fmt.Errorf("want schema %d, found %d: a newer agentd wrote it; run that one, or remove the file to begin anew", stateSchema, st.Schema)
	}
	if st.File != "" && (filepath.Base(st.File) != st.File || !strings.HasSuffix(st.File, streamEnd(name))) || st.Bytes < 0 {
		return st, fmt.Errorf("want a file whose name ends with %s and its length, found %q and %d; remove it to begin anew", streamEnd(name), st.File, st.Bytes)
	}
	return st, nil
}

func streamEnd(name string) string { return "-" + name + Extension }

// cut removes what an append that did not end has left.
func (t *Stream) cut() error {
	if t.state.File == "" {
		return nil
	}
	path := filepath.Join(t.spool.dir, t.state.File)
	if t.state.Bytes == 0 {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // collected
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.Size() < t.state.Bytes:
		t.lost = t.state.Bytes - info.Size()
	case info.Size() > t.state.Bytes:
		// Synced: the state is about to name another file, and then nobody
		// looks here again.
		if err = f.Truncate(t.state.Bytes); err == nil {
			err = t.spool.sync(f)
		}
	}
	return errors.Join(err, f.Close())
}

// Mark is the mark of the last batch that was stored, "" at first.
func (t *Stream) Mark() string { return t.state.Mark }

// Lost is how many bytes of stored records OpenStream found missing from the
// end of the last file: somebody else, or a failing disk, has shortened it.
func (t *Stream) Lost() int64 { return t.lost }

// Append stores b and mark together and returns once they are on disk. An
// empty b stores the mark alone. After an error neither counts, and the
// stream has to be opened anew.
func (t *Stream) Append(b Batch, mark string) error {
	if t.err != nil {
		return t.err
	}
	if t.err = t.append(b, mark); t.err == nil {
		t.spool.records.Add(int64(b.n))
	}
	t.spool.failed.Store(t.err != nil)
	return t.err
}

func (t *Stream) append(b Batch, mark string) error {
	if t.spool.closed.Load() {
		return ErrClosed
	}
	next := t.state
	next.Mark = mark
	if b.n > 0 {
		if err := t.write(b.data); err != nil {
			return t.spool.failure(b.data, err)
		}
		next.File, next.Bytes = filepath.Base(t.file.path), t.file.size
	}
	t.spool.step("stored")
	if err := t.save(next); err != nil {
		return t.spool.failure(b.data, err)
	}
	if t.file != nil && t.file.size >= t.spool.maxBytes.Load() {
		_ = t.file.close() // all of it is durable
		t.file = nil
	}
	return nil
}

// write makes data durable behind what counts already.
func (t *Stream) write(data []byte) error {
	if t.file == nil {
		if err := t.begin(); err != nil {
			return err
		}
	}
	return t.file.append(data)
}

// begin makes the next file. The state names it before it is there, so that
// what an append leaves in it is found.
func (t *Stream) begin() error {
	for t.file == nil {
		next := t.state
		next.File, next.Bytes = t.spool.name(streamEnd(t.name)), 0
		if err := t.save(next); err != nil {
			return err
		}
		t.spool.step("named")
		file, err := createSegment(filepath.Join(t.spool.dir, next.File), t.spool.sync)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		t.file = file
	}
	t.spool.step("begun")
	return nil
}

func (t *Stream) save(next streamState) error {
	next.Schema, next.Saved = stateSchema, time.Now().UTC()
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(next); err != nil {
		return err
	}
	if data.Len() > maxStateBytes {
		return fmt.Errorf("a mark of %d bytes: want a state of at most %d", len(next.Mark), maxStateBytes)
	}
	if err := durable.WriteFile(t.path, data.Bytes()); err != nil {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	t.state = next
	return nil
}

// Close closes the current file. What was stored stays stored.
func (t *Stream) Close() error {
	if t.err == nil {
		t.err = ErrClosed
	}
	if t.file == nil {
		return nil
	}
	err := t.file.f.Close()
	t.file = nil
	return err
}
