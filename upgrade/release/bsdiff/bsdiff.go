// Package bsdiff makes binary patches in the format of Colin Percival's
// bsdiff (BSDIFF40), which the bspatch command and the agents of package
// release apply. Two releases of one Go program differ by a few percent of
// what the newer one compresses to.
//
// It is for publishers. Agents apply patches with what package release has,
// and need not link this package.
//
// Making a patch takes memory of about ten times the older binary and once
// the newer one, and about a second of processor time for each 2 MiB of both.
// It is deterministic: the same two binaries give the same patch.
package bsdiff

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/dsnet/compress/bzip2"
)

// MaxSize is the most bytes that the older or the newer binary may have:
// 256 MiB.
const MaxSize = 256 << 20

// Differ makes patches for release.RepositoryConfig.Differs. The zero value is
// ready, and safe for concurrent use.
type Differ struct{}

// Format is "bsdiff".
func (Differ) Format() string { return "bsdiff" }

// Diff writes to w the patch that makes current of old. It ends early with
// ctx, and refuses binaries beyond MaxSize with an error that wraps
// errors.ErrUnsupported.
func (Differ) Diff(ctx context.Context, w io.Writer, old, current []byte) error {
	if len(old) > MaxSize || len(current) > MaxSize {
		return fmt.Errorf("bsdiff of %d to %d bytes: at most %d are taken: %w", len(old), len(current), MaxSize, errors.ErrUnsupported)
	}
	sorted, err := sortSuffixes(ctx, old)
	if err != nil {
		return fmt.Errorf("bsdiff: %w", err)
	}
	d, err := newDiff(old, current, sorted)
	if err == nil {
		err = d.run(ctx)
	}
	if err == nil {
		err = d.writeTo(w)
	}
	if err != nil {
		return fmt.Errorf("bsdiff: %w", err)
	}
	return nil
}

// The three blocks of a patch.
const (
	control = iota // steps: bytes to add, bytes to insert, bytes to skip in old
	added          // what is added to bytes of old
	extra          // what is inserted
	blocks
)

// diff is one patch in the making.
type diff struct {
	old, current []byte
	sorted       []int32 // suffixes of old

	packed [blocks]bytes.Buffer
	pack   [blocks]*bzip2.Writer

	// The match that the next step ends at, and the one before it: where it
	// begins in current and in old.
	scan, pos         int
	lastScan, lastPos int
}

func newDiff(old, current []byte, sorted []int32) (*diff, error) {
	d := &diff{old: old, current: current, sorted: sorted}
	for i := range d.pack {
		var err error
		if d.pack[i], err = bzip2.NewWriter(&d.packed[i], &bzip2.WriterConfig{Level: bzip2.BestCompression}); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// worthwhile is by how many bytes a match must be better than going on with
// the alignment of the one before.
const worthwhile = 8

// run looks for matches that are worth a step, each at the first place in
// current where there is one.
func (d *diff) run(ctx context.Context) error {
	length := 0
	for steps := 0; d.scan < len(d.current); {
		d.scan += length
		offset := d.lastPos - d.lastScan
		same := 0 // bytes of this match that the alignment before has right, too
		counted := d.scan
		for ; d.scan < len(d.current); d.scan++ {
			if steps++; steps%4096 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			d.pos, length = d.longest(d.current[d.scan:])
			for ; counted < d.scan+length; counted++ {
				if d.aligned(counted, offset) {
					same++
				}
			}
			if (length == same && length != 0) || length > same+worthwhile {
				break
			}
			if d.aligned(d.scan, offset) {
				same--
			}
		}
		if d.scan == len(d.current) {
			length = 0
		}
		if length != same || d.scan == len(d.current) {
			if err := d.step(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *diff) aligned(at, offset int) bool {
	from := at + offset
	return from >= 0 && from < len(d.old) && d.old[from] == d.current[at]
}

// step writes what lies between the match before and this one: the first is
// extended forwards and the second backwards, with half of the bytes right at
// least, and the rest is inserted.
func (d *diff) step() error {
	forward, backward := d.forward(), 0
	if d.scan < len(d.current) {
		backward = d.backward()
	}
	if overlap := d.lastScan + forward - (d.scan - backward); overlap > 0 {
		cut := d.split(forward, backward, overlap)
		forward += cut - overlap
		backward -= cut
	}
	delta := make([]byte, forward)
	for i := range delta {
		delta[i] = d.current[d.lastScan+i] - d.old[d.lastPos+i]
	}
	insert := d.current[d.lastScan+forward : d.scan-backward]
	var numbers [24]byte
	putSignMagnitude(numbers[:], forward)
	putSignMagnitude(numbers[8:], len(insert))
	putSignMagnitude(numbers[16:], d.pos-backward-(d.lastPos+forward))
	for i, data := range [blocks][]byte{numbers[:], delta, insert} {
		if _, err := d.pack[i].Write(data); err != nil {
			return err
		}
	}
	d.lastScan, d.lastPos = d.scan-backward, d.pos-backward
	return nil
}

// forward is how far the match before goes on.
func (d *diff) forward() (length int) {
	same, best := 0, 0
	for i := 0; d.lastScan+i < d.scan && d.lastPos+i < len(d.old); i++ {
		if d.old[d.lastPos+i] == d.current[d.lastScan+i] {
			same++
		}
		if score := 2*same - (i + 1); score > best {
			best, length = score, i+1
		}
	}
	return length
}

// backward is how far this match begins earlier.
func (d *diff) backward() (length int) {
	same, best := 0, 0
	for i := 1; d.scan-i >= d.lastScan && i <= d.pos; i++ {
		if d.old[d.pos-i] == d.current[d.scan-i] {
			same++
		}
		if score := 2*same - i; score > best {
			best, length = score, i
		}
	}
	return length
}

// split says how many of the bytes that both extensions claim are better in
// the first.
func (d *diff) split(forward, backward, overlap int) (length int) {
	score, best := 0, 0
	for i := range overlap {
		at := d.lastScan + forward - overlap + i
		if d.current[at] == d.old[d.lastPos+forward-overlap+i] {
			score++
		}
		if d.current[at] == d.old[d.pos-backward+i] {
			score--
		}
		if score > best {
			best, length = score, i+1
		}
	}
	return length
}

// writeTo writes header and blocks.
func (d *diff) writeTo(w io.Writer) error {
	for _, p := range d.pack {
		if err := p.Close(); err != nil {
			return err
		}
	}
	header := []byte("BSDIFF40000000000000000000000000")
	putSignMagnitude(header[8:], d.packed[control].Len())
	putSignMagnitude(header[16:], d.packed[added].Len())
	putSignMagnitude(header[24:], len(d.current))
	if _, err := w.Write(header); err != nil {
		return err
	}
	for i := range d.packed {
		if _, err := d.packed[i].WriteTo(w); err != nil {
			return err
		}
	}
	return nil
}

// putSignMagnitude writes a number as bsdiff reads it.
func putSignMagnitude(b []byte, n int) {
	value := uint64(max(n, -n)) //nolint:gosec // not negative
	if n < 0 {
		value |= 1 << 63
	}
	binary.LittleEndian.PutUint64(b, value)
}
