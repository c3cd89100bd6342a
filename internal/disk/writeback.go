package disk

import "os"

// writebackChunk is how many bytes are handed to the disk at a time. Twice as
// many are dirty at most.
const writebackChunk = 1 << 20

// Writeback keeps a large file that is being written from filling the page
// cache with dirty pages. Otherwise the fsync at the end writes all of them
// at once, and every other fsync on the same file system, such as those of
// the program's own database, waits for it.
//
// Where the system has no such call it does nothing. Errors are left to the
// fsync at the end.
type Writeback struct {
	file             *os.File
	written, started int64
}

// NewWriteback returns the one for a file that will be written from offset
// on.
func NewWriteback(file *os.File, offset int64) *Writeback {
	return &Writeback{file: file, written: offset, started: offset}
}

// Wrote says that n more bytes have been written. Every MiB it waits until
// the chunk before the last one is on the disk.
func (w *Writeback) Wrote(n int) {
	w.written += int64(n)
	for w.written-w.started >= writebackChunk {
		w.start(w.started)
		if w.started >= writebackChunk {
			w.wait(w.started - writebackChunk)
		}
		w.started += writebackChunk
	}
}
