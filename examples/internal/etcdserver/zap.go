package etcdserver

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// slogCore is the core of the zap logger that etcd is given. It passes
// warnings and errors on to slog: etcd's informational lines describe its
// inside, not the user's doing. While quiet, as during start and stop, it
// passes nothing: what matters then is returned.
type slogCore struct {
	logger *slog.Logger
	quiet  *atomic.Bool
	fields []zapcore.Field
}

func newSlogCore(logger *slog.Logger) *slogCore {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	c := &slogCore{logger: logger, quiet: new(atomic.Bool)}
	c.quiet.Store(true)
	return c
}

// Enabled implements zapcore.LevelEnabler.
func (c *slogCore) Enabled(level zapcore.Level) bool {
	return level >= zapcore.WarnLevel && !c.quiet.Load()
}

// With implements zapcore.Core.
func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{logger: c.logger, quiet: c.quiet, fields: append(slices.Clip(c.fields), fields...)}
}

// Check implements zapcore.Core.
func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	switch e.Message {
	case "Failed to detect schema version", "failed to update storage version":
		// etcd 3.7 says so once about every new data directory, as warning
		// and error, though nothing is wrong.
		return ce
	}
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(slices.Clip(c.fields), fields...) {
		f.AddTo(enc)
	}
	level := slog.LevelWarn
	if e.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	c.logger.LogAttrs(context.Background(), level, "etcd says", slog.String("text", e.Message), slog.Any("fields", enc.Fields))
	return nil
}

// Sync implements zapcore.Core.
func (c *slogCore) Sync() error { return nil }
