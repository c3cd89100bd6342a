package agent

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"

	"github.com/perennial-go/perennial/internal/redact"
)

// Bounds of what an agent remembers of its log for Diagnose, in bytes of JSON.
const (
	recentBytes = 512 << 10
	recentLine  = 8 << 10
	// recentEnd is left out of a line that was cut: a secret that was cut in
	// two is not known any more.
	recentEnd = 2 << 10
)

// Logger returns a logger that writes to log, nil meaning to nowhere, with the
// keys agent and version on every line, and that remembers the newest lines for
// Diagnose: up to 512 KiB, from level Info on, and below that what log takes.
//
// New makes such a logger of Config.Logger by itself. Who logs more than the
// agent does, such as a store of settings or a source of releases, calls this
// first and gives the result to all, New included: it is then as it is.
func Logger(log *slog.Logger, id, version string) *slog.Logger {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ring := &recentLog{}
	kept := slog.NewJSONHandler(ring, &slog.HandlerOptions{Level: slog.LevelDebug})
	return slog.New(&recorder{next: log.Handler(), kept: kept, ring: ring}).With("agent", id, "version", version)
}

// recorder is a slog.Handler that passes records on and remembers them.
type recorder struct {
	next, kept slog.Handler
	ring       *recentLog
}

// Enabled, Handle, WithAttrs and WithGroup implement slog.Handler.
func (r *recorder) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || r.next.Enabled(ctx, level)
}

func (r *recorder) Handle(ctx context.Context, record slog.Record) error {
	_ = r.kept.Handle(ctx, record) // memory takes all
	if !r.next.Enabled(ctx, record.Level) {
		return nil
	}
	return r.next.Handle(ctx, record)
}

func (r *recorder) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &recorder{r.next.WithAttrs(attrs), r.kept.WithAttrs(attrs), r.ring}
}

func (r *recorder) WithGroup(name string) slog.Handler {
	return &recorder{r.next.WithGroup(name), r.kept.WithGroup(name), r.ring}
}

// recentLog holds the newest lines. A line comes by one Write. One that was cut
// has no newline at its end.
type recentLog struct {
	mu    sync.Mutex
	lines [][]byte
	bytes int
	lost  int64 // lines that had to go
}

// Write implements io.Writer; it never fails.
func (l *recentLog) Write(line []byte) (int, error) {
	n := len(line)
	line = append([]byte{}, line[:min(n, recentLine)]...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	l.bytes += len(line)
	drop := 0
	for ; l.bytes > recentBytes; drop++ {
		l.bytes -= len(l.lines[drop])
		l.lines[drop] = nil
	}
	l.lines = l.lines[drop:]
	l.lost += int64(drop)
	return n, nil
}

// copyTo writes the lines to w, the oldest first, and returns how many there
// were before them. The ends of those that were cut are left out, and what is
// left is clean.
func (l *recentLog) copyTo(w io.Writer, clean *redact.Redactor) (lost int64, err error) {
	l.mu.Lock()
	lines, lost := append([][]byte{}, l.lines...), l.lost
	l.mu.Unlock()
	for _, line := range lines {
		if !bytes.HasSuffix(line, []byte("\n")) {
			text := clean.Text(string(line))
			line = append([]byte(text[:max(0, min(len(text), recentLine)-recentEnd)]), "...\n"...)
		}
		if _, err := w.Write(line); err != nil {
			return lost, err
		}
	}
	return lost, nil
}
