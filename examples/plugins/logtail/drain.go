package main

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

const (
	// readBytes is how much of a file is read at a time: more than the longest
	// line.
	readBytes = 256 << 10
	// rounds is how often the files take turns before the next look.
	rounds = 16
)

// drain sends what the files have, in turns, so that one of which there is
// much to read does not keep the others waiting. Of files that had the same
// path the older goes first. more says that there is more to read at once; err
// is the task's end.
func (f *follower) drain(ctx context.Context) (more bool, err error) {
	now := time.Now()
	for range rounds {
		more = false
		behind := map[string]bool{} // paths of which an older file is not read yet
		for _, t := range f.files {
			if behind[t.Path] {
				continue
			}
			if err := ctx.Err(); err != nil {
				return false, err
			}
			further, err := f.turn(t, now)
			if err != nil {
				return false, err
			}
			if further {
				more, behind[t.Path] = true, true
			}
		}
		if !more {
			break
		}
	}
	return more, f.flush()
}

// turn reads a file once. further says that it has more; err is the task's
// end.
func (f *follower) turn(t *file, now time.Time) (further bool, err error) {
	expected := t.expected(now, &f.settings)
	if !t.dirty && (t.held == 0 || expected == moreSoon) {
		return false, nil
	}
	if !t.inspected() {
		t.dirty = t.size > 0 // written since the look: the next one tells
		return false, nil
	}
	n, err := t.f.ReadAt(f.buf, t.Offset-t.TailLen)
	end := errors.Is(err, io.EOF)
	if err != nil && !end {
		f.problem(err)
		return false, nil
	}
	if int64(n) < t.TailLen || crc32.ChecksumIEEE(f.buf[:t.TailLen]) != t.Tail || t.Offset == 0 && !t.first.of(f.buf[:n]) {
		t.dirty = true
		return false, nil // truncated since the look: the next one tells
	}
	text := f.buf[:n]
	if !end {
		expected = moreSoon
	}
	for start, at := t.Offset-t.TailLen, int(t.TailLen); ; {
		p := f.settings.splitter.next(text[at:], expected)
		if p.used == 0 {
			break
		}
		if err := f.batch.add(t.Path, start+int64(at), p); err != nil {
			return false, err
		}
		if p.cut && !t.told {
			t.told = true
			f.log.Warn("a record was cut: it is longer than max_line_bytes or multiline.max_lines allow; this is told once for each file", "path", t.Path, "offset", start+int64(at))
		}
		at += p.used
		t.move(start+int64(at), text[:at])
		if f.batch.full() {
			if err := f.flush(); err != nil {
				return false, err
			}
		}
	}
	t.held = int(int64(n) - t.TailLen)
	t.dirty = !end
	if end {
		t.Modified = t.seen
	}
	return !end, nil
}

// flush sends the batch with the places after it.
func (f *follower) flush() error {
	if payload := f.batch.take(); len(payload) > 0 {
		return f.result(payload)
	}
	return nil
}

func (f *follower) result(payload []byte) error {
	at := cursor{Schema: cursorSchema, Files: append(make([]place, 0, len(f.missing)+len(f.files)), f.missing...)}
	for _, t := range f.files {
		at.Files = append(at.Files, t.place)
	}
	text, err := at.String()
	if err != nil {
		return err
	}
	return f.send(sdk.Result{Payload: payload, Cursor: text})
}
