package waittest

import (
	"strings"
	"sync"
)

// Log is a writer that a test reads while others write to it: a logger, or a
// process's output. Its zero value is ready.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String is all that was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Count is how often text was written.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// Has tells whether text was written.
func (l *Log) Has(text string) bool { return l.Count(text) > 0 }
