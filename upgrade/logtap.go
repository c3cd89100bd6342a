package upgrade

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"sync"
)

// logLines and logLineBytes bound what is kept of a successor's output.
const (
	logLines     = 50
	logLineBytes = 1 << 10
)

// logTail copies a stream and keeps its last lines.
type logTail struct {
	mu    sync.Mutex
	lines []string
	done  chan struct{}
}

// tailOf copies r to w until r ends.
func tailOf(r io.Reader, w io.Writer) *logTail {
	t := &logTail{done: make(chan struct{})}
	go func() {
		defer close(t.done)
		br := bufio.NewReaderSize(r, logLineBytes)
		for {
			line, err := br.ReadSlice('\n')
			if len(line) > 0 {
				// A log that cannot be copied is still kept.
				_, _ = w.Write(line)
				t.add(line)
			}
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return
			}
		}
	}()
	return t
}

func (t *logTail) add(line []byte) {
	if n := len(line); line[n-1] == '\n' {
		line = line[:n-1]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == logLines {
		t.lines = append(t.lines[:0], t.lines[1:]...)
	}
	t.lines = append(t.lines, string(line))
}

func (t *logTail) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines)
}
