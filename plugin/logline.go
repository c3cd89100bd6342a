package plugin

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
)

// Bounds on what is kept of a plugin's last words.
const (
	tailLines     = 4
	tailLineBytes = 300
	maxLineBytes  = 64 << 10
)

// logWriter turns what a plugin writes to standard error or standard output
// into log records, and remembers the last lines: they say why it died. Lines
// of slog's JSON handler keep level and attributes.
type logWriter struct {
	log *slog.Logger

	mu    sync.Mutex
	tail  []string
	fatal string // the first line of a Go panic; its stack would push it out
}

// Write implements io.Writer; it never fails.
func (w *logWriter) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		w.emit(line)
	}
	return len(p), nil
}

// emit takes one line.
func (w *logWriter) emit(line string) {
	line = strings.TrimSpace(line)
	if line == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	level, msg, fields := parseLine(line)
	if w.fatal == "" && (strings.HasPrefix(msg, "panic: ") || strings.HasPrefix(msg, "fatal error: ")) {
		w.fatal = msg[:min(len(msg), tailLineBytes)]
	}
	if level >= slog.LevelInfo {
		w.tail = append(w.tail, msg[:min(len(msg), tailLineBytes)])
		w.tail = w.tail[max(len(w.tail)-tailLines, 0):]
	}
	w.log.LogAttrs(context.Background(), level, "plugin says", slog.String("text", msg), fields)
}

// parseLine reads a line of slog's (or hclog's) JSON; any other line is text.
// The attribute is empty, which handlers leave out, where it has no others.
func parseLine(line string) (slog.Level, string, slog.Attr) {
	var fields map[string]any
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &fields) != nil {
		return slog.LevelInfo, line, slog.Attr{}
	}
	take := func(keys ...string) string {
		for _, k := range keys {
			if s, ok := fields[k].(string); ok {
				delete(fields, k)
				return s
			}
		}
		return ""
	}
	var level slog.Level
	if level.UnmarshalText([]byte(take("level", "@level"))) != nil {
		level = slog.LevelInfo
	}
	msg := take("msg", "@message")
	if msg == "" {
		return level, line, slog.Attr{}
	}
	take("time", "@timestamp")
	if len(fields) == 0 {
		return level, msg, slog.Attr{}
	}
	return level, msg, slog.Any("fields", fields)
}

// lastWords is "" if the plugin said nothing.
func (w *logWriter) lastWords() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fatal != "" {
		return "; " + w.fatal
	}
	if len(w.tail) == 0 {
		return ""
	}
	return "; its last words: " + strings.Join(w.tail, " | ")
}
