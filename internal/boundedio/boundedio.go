// Package boundedio reads what others send, and no more than was agreed.
package boundedio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrTooLarge is of data beyond the limit.
var ErrTooLarge = errors.New("too large")

// ReadAll reads the whole of body, at most limit bytes, and closes it. total is
// how many bytes there are to be, negative if that is not known; fewer are
// io.ErrUnexpectedEOF. One byte more than limit is asked for, so that endless
// data is noticed without being kept.
func ReadAll(body io.ReadCloser, total, limit int64) (data []byte, err error) {
	defer func() { err = errors.Join(err, body.Close()) }()
	if total > limit {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are read", ErrTooLarge, total, limit)
	}
	var buf bytes.Buffer
	buf.Grow(int(max(total, 0)) + bytes.MinRead) // at most limit and a bit
	if _, err := buf.ReadFrom(io.LimitReader(body, limit+1)); err != nil {
		return nil, err
	}
	n := int64(buf.Len())
	if n > limit {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrTooLarge, limit)
	}
	if total >= 0 && n != total {
		return nil, fmt.Errorf("it ended after %d of %d bytes: %w", n, total, io.ErrUnexpectedEOF)
	}
	return buf.Bytes(), nil
}

// NoEOF is err, with io.ErrUnexpectedEOF for an end in the middle.
func NoEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
