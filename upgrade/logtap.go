package upgrade

import (
	"bufio"
	"errors"
	"io"
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
	lines [logLines][]byte // a ring, so that a flood makes no garbage
	count int              // of all lines so far
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
	kept := &t.lines[t.count%logLines]
	*kept = append((*kept)[:0], line...)
	t.count++
}

// last returns what is kept, fit for JSON and for a terminal.
func (t *logTail) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for i := max(0, t.count-logLines); i < t.count; i++ {
		lines = append(lines, printable(string(t.lines[i%logLines]), logLineBytes))
	}
	return lines
}
