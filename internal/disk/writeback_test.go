package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Handing pages to the disk early must not lose or move a byte, wherever a
// resumed file begins.
func TestWritebackChangesNoByte(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 3*writebackChunk/16)
	for _, offset := range []int{0, 1000, writebackChunk + 1} {
		f, err := os.Create(filepath.Join(t.TempDir(), "file"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(want[:offset]); err != nil {
			t.Fatal(err)
		}
		w := NewWriteback(f, int64(offset))
		for at := offset; at < len(want); {
			n, err := f.Write(want[at:min(len(want), at+300_000)])
			if err != nil {
				t.Fatal(err)
			}
			w.Wrote(n)
			at += n
		}
		if left := w.written - w.started; w.written != int64(len(want)) || left >= writebackChunk {
			t.Errorf("from %d: %d bytes counted, %d not handed on", offset, w.written, left)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("from %d: the file differs (%v)", offset, err)
		}
	}
}
