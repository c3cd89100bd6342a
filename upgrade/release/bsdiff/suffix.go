package bsdiff

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"index/suffixarray"
	"io"
	"math/bits"
	"sort"
)

// sortSuffixes returns the beginnings of data's suffixes in their order.
//
// The standard library sorts them well, and gives them out by
// suffixarray.Index.Write alone: a header of binary.MaxVarintLen64 bytes with
// the length, the data, and blocks of numbers, each with a header that holds
// the block's size. TestSuffixesAreSorted notices if that changes.
func sortSuffixes(ctx context.Context, data []byte) (sorted []int32, err error) {
	index := suffixarray.New(data) // the one part that ctx does not end
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	from, to := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = to.CloseWithError(index.Write(to))
	}()
	defer func() {
		_ = from.Close()
		<-done
	}()
	return readSuffixes(bufio.NewReaderSize(from, 64<<10), len(data))
}

func readSuffixes(r *bufio.Reader, n int) ([]int32, error) {
	if got, err := readHeader(r); err != nil || got != int64(n) {
		return nil, fmt.Errorf("suffix array of %d bytes, found %d: %w", n, got, errors.Join(err))
	}
	if _, err := r.Discard(n); err != nil {
		return nil, err
	}
	sorted := make([]int32, 0, n)
	for len(sorted) < n {
		size, err := readHeader(r)
		if err != nil {
			return nil, err
		}
		for size -= binary.MaxVarintLen64; size > 0; {
			at, err := binary.ReadUvarint(r)
			if err != nil || at >= uint64(n) { //nolint:gosec // not negative
				return nil, fmt.Errorf("suffix array: number %d is %d of %d: %w", len(sorted), at, n, errors.Join(err))
			}
			sorted = append(sorted, int32(at)) //nolint:gosec // below MaxSize
			size -= int64(varintLength(at))
		}
	}
	return sorted, nil
}

// varintLength is how many bytes binary.PutUvarint takes.
func varintLength(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

func readHeader(r *bufio.Reader) (int64, error) {
	var header [binary.MaxVarintLen64]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, err
	}
	n, _ := binary.Varint(header[:])
	return n, nil
}

// compared bounds the bytes by which suffixes are told apart. Long runs of
// one byte would make each comparison run through all of them.
const compared = 4 << 10

// longest returns where in old the longest match with the beginning of want
// lies, and its length.
func (d *diff) longest(want []byte) (pos, length int) {
	if len(d.sorted) == 0 {
		return 0, 0
	}
	short := want[:min(len(want), compared)]
	at := sort.Search(len(d.sorted), func(i int) bool {
		suffix := d.old[d.sorted[i]:]
		return bytes.Compare(suffix[:min(len(suffix), compared)], short) >= 0
	})
	// Of all suffixes one of the two neighbours has the most in common.
	for _, i := range []int{at - 1, at} {
		if i < 0 || i == len(d.sorted) {
			continue
		}
		from := int(d.sorted[i])
		if n := common(d.old[from:], want); n > length {
			pos, length = from, n
		}
	}
	return pos, length
}

// common is the length of the prefix that a and b share.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
