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
)

// Settings is the whole document. The tags are what the library goes by:
// defaults, and the descriptions in the schema that it publishes.
type Settings struct {
	Log     Log               `yaml:"log" doc:"What the agent logs."`
	HTTP    HTTP              `yaml:"http" doc:"The interface for records."`
	Spool   Spool             `yaml:"spool" doc:"The files in which records land."`
	Plugins map[string]Plugin `yaml:"plugins" doc:"The collection through each plugin, by its name."`
}

// Log is about what the agent logs.
type Log struct {
	Level string `yaml:"level" default:"info" doc:"debug, info, warn or error."`
}

// HTTP is about the records interface.
type HTTP struct {
	ReadTimeout time.Duration `yaml:"read_timeout" default:"30s" doc:"Bound of the reading of one request's body, 1s to 10m."`
}

// Spool is about the files in which records land.
type Spool struct {
	MaxFileBytes int64 `yaml:"max_file_bytes" default:"67108864" doc:"Size at which the next file is begun, 4 KiB to 16 GiB."`
}

// Plugin is about the collection through one plugin.
type Plugin struct {
	Enabled  bool           `yaml:"enabled" default:"true" doc:"Whether to collect through it."`
	Settings map[string]any `yaml:"settings" doc:"The payload of its collect task, as JSON. What it makes of that is the plugin's own; the settings that it starts with are in its manifest."`
}

const (
	minReadTimeout = time.Second
	maxReadTimeout = 10 * time.Minute
	minFileBytes   = 4 << 10
	maxFileBytes   = 16 << 30
)

// Validate refuses a level that there is not.
func (l *Log) Validate() error {
	if _, ok := ParseLevel(l.Level); !ok {
		return fmt.Errorf("level: want one of [debug info warn error], found %q", l.Level)
	}
	return nil
}

// Validate refuses a time out of range.
func (h *HTTP) Validate() error {
	if d := h.ReadTimeout; d < minReadTimeout || d > maxReadTimeout {
		return fmt.Errorf("read_timeout: want %v to %v, found %v", minReadTimeout, maxReadTimeout, d)
	}
	return nil
}

// Validate refuses a size out of range.
func (s *Spool) Validate() error {
	if n := s.MaxFileBytes; n < minFileBytes || n > maxFileBytes {
		return fmt.Errorf("max_file_bytes: want %d to %d, found %d", minFileBytes, int64(maxFileBytes), n)
	}
	return nil
}

// Validate refuses what a task cannot carry.
func (p *Plugin) Validate() error {
	if _, err := json.Marshal(p.Settings); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}

// SlogLevel is Level for slog; info if it is not valid.
func (l *Log) SlogLevel() slog.Level {
	level, _ := ParseLevel(l.Level)
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
	p, ok := s.Plugins[plugin]
	if ok && !p.Enabled {
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
