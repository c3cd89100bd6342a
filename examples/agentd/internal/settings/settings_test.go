package settings

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestDefaultIsValid(t *testing.T) {
	s := Default()
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if s.LogLevel() != slog.LevelInfo {
		t.Errorf("level %v, want info", s.LogLevel())
	}
}

func TestValidateNamesThePathThatIsWrong(t *testing.T) {
	for path, spoil := range map[string]func(*Settings){
		"log.level":            func(s *Settings) { s.Log.Level = "loud" },
		"http.read_timeout":    func(s *Settings) { s.HTTP.ReadTimeout = time.Millisecond },
		"spool.max_file_bytes": func(s *Settings) { s.Spool.MaxFileBytes = 1 },
		"plugins.logtail.settings": func(s *Settings) {
			s.Plugins = map[string]Plugin{"logtail": {Settings: map[string]any{"f": func() {}}}}
		},
	} {
		s := Default()
		spoil(&s)
		if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("Validate = %v, want an error about %s", err, path)
		}
	}
}

func TestPluginsAreCollectedUnlessDisabled(t *testing.T) {
	off, on := false, true
	s := Settings{Plugins: map[string]Plugin{
		"off": {Enabled: &off, Settings: map[string]any{"a": 1}},
		"on":  {Enabled: &on, Settings: map[string]any{"interval": "5s"}},
	}}
	for name, want := range map[string]struct {
		payload string
		enabled bool
	}{"off": {"", false}, "on": {`{"interval":"5s"}`, true}, "unnamed": {"", true}} {
		payload, enabled := s.Collect(name)
		if string(payload) != want.payload || enabled != want.enabled {
			t.Errorf("Collect(%s) = %s, %v; want %s, %v", name, payload, enabled, want.payload, want.enabled)
		}
	}
}
