package boundedio

import (
	"errors"
	"io"
	"strings"
	"testing"
)

type body struct {
	io.Reader
	closed bool
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.closed = true
	return nil
}

type endless struct{ read int }

// Read implements io.Reader.
func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

func TestWholeIsReadWithinItsLimitOnly(t *testing.T) {
	for name, c := range map[string]struct {
		data         string
		total, limit int64
		want         error
	}{
		"known":            {"abc", 3, 3, nil},
		"unknown":          {"abc", -1, 3, nil},
		"empty":            {"", 0, 0, nil},
		"said too large":   {"abc", 4, 3, ErrTooLarge},
		"is too large":     {"abcd", -1, 3, ErrTooLarge},
		"larger than said": {"abcd", 3, 3, ErrTooLarge},
		"more than said":   {"abcd", 3, 9, io.ErrUnexpectedEOF},
		"cut short":        {"ab", 3, 3, io.ErrUnexpectedEOF},
	} {
		b := &body{Reader: strings.NewReader(c.data)}
		got, err := ReadAll(b, c.total, c.limit)
		if !errors.Is(err, c.want) || (c.want == nil && string(got) != c.data) || !b.closed {
			t.Errorf("%s: %q, %v, closed %v", name, got, err, b.closed)
		}
	}
	e := &endless{}
	if _, err := ReadAll(&body{Reader: e}, -1, 100); !errors.Is(err, ErrTooLarge) || e.read > 101 {
		t.Errorf("endless: %d bytes were read, %v", e.read, err)
	}
}
