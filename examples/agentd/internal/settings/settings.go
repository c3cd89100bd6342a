// Package settings is agentd's configuration document. It is read from etcd
// in layers, strictly: an unknown field is an error.
//
//	log:
//	  level: info            # debug, info, warn or error
//	http:
//	  read_timeout: 30s      # for the body of one request
//	spool:
//	  max_file_bytes: 67108864
//	plugins:
//	  hostmetrics:
//	    enabled: false       # true if it is not set
package settings

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/perennial-go/perennial/examples/internal/spool"
)

// Settings is the whole document.
type Settings struct {
	Log     Log               `yaml:"log"`
	HTTP    HTTP              `yaml:"http"`
	Spool   Spool             `yaml:"spool"`
	Plugins map[string]Plugin `yaml:"plugins"`
}

// Log is about what the agent logs.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `yaml:"level"`
}

// HTTP is about the records interface.
type HTTP struct {
	// ReadTimeout bounds the reading of one request's body.
	ReadTimeout time.Duration `yaml:"read_timeout"`
}

// Spool is about the files in which records land.
type Spool struct {
	// MaxFileBytes is the size at which the next file is begun.
	MaxFileBytes int64 `yaml:"max_file_bytes"`
}

// Plugin is about the collection through one plugin.
type Plugin struct {
	// Enabled is true if it is not set.
	Enabled *bool `yaml:"enabled"`
	// Settings is given to the plugin as the JSON payload of its collect
	// task; what it makes of that is the plugin's own. The settings that it
	// starts with are in its manifest.
	Settings map[string]any `yaml:"settings"`
}

// Default is in force where the documents say nothing.
func Default() Settings {
	return Settings{
		Log:   Log{Level: "info"},
		HTTP:  HTTP{ReadTimeout: 30 * time.Second},
		Spool: Spool{MaxFileBytes: spool.DefaultMaxFileBytes},
	}
}

const (
	minReadTimeout = time.Second
	maxReadTimeout = 10 * time.Minute
	minFileBytes   = 4 << 10
	maxFileBytes   = 16 << 30
)

// Validate names the first setting that is out of range.
func (s *Settings) Validate() error {
	if _, ok := ParseLevel(s.Log.Level); !ok {
		return fmt.Errorf("log.level: want one of [debug info warn error], found %q", s.Log.Level)
	}
	if d := s.HTTP.ReadTimeout; d < minReadTimeout || d > maxReadTimeout {
		return fmt.Errorf("http.read_timeout: want %v to %v, found %v", minReadTimeout, maxReadTimeout, d)
	}
	if n := s.Spool.MaxFileBytes; n < minFileBytes || n > maxFileBytes {
		return fmt.Errorf("spool.max_file_bytes: want %d to %d, found %d", minFileBytes, int64(maxFileBytes), n)
	}
	for name, p := range s.Plugins {
		if _, err := json.Marshal(p.Settings); err != nil {
			return fmt.Errorf("plugins.%s.settings: %w", name, err)
		}
	}
	return nil
}

// LogLevel is Log.Level for slog; info if it is not valid.
func (s *Settings) LogLevel() slog.Level {
	level, _ := ParseLevel(s.Log.Level)
	return level
}

// ParseLevel knows the four levels by name; any other is info and not ok.
func ParseLevel(name string) (level slog.Level, ok bool) {
	level, ok = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}[name]
	return level, ok
}

// Collect says whether to collect through the plugin and with which payload,
// nil if the document has no settings for it.
func (s *Settings) Collect(plugin string) (payload []byte, enabled bool) {
	p := s.Plugins[plugin]
	if p.Enabled != nil && !*p.Enabled {
		return nil, false
	}
	if len(p.Settings) == 0 {
		return nil, true
	}
	payload, err := json.Marshal(p.Settings)
	if err != nil {
		return nil, false // Validate has refused it
	}
	return payload, true
}
