package main

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/examples/agentd/internal/settings"
)

// logFlags say how to log to standard error. The level can change while the
// process runs.
type logFlags struct {
	format string
	level  slog.LevelVar
	start  string
}

func (l *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.format, "log-format", "text", "how to log: text or json")
	cmd.Flags().StringVar(&l.start, "log-level", "info", "what to log: debug, info, warn or error")
}

func (l *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	level, ok := settings.ParseLevel(l.start)
	if !ok {
		return nil, usagef("--log-level: want debug, info, warn or error, found %q", l.start)
	}
	l.level.Set(level)
	options := &slog.HandlerOptions{Level: &l.level}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, usagef("--log-format: want text or json, found %q", l.format)
}
