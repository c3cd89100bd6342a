package settings

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/examples/internal/spool"
)

func check(t *testing.T, documents ...string) (Settings, error) {
	t.Helper()
	store, err := config.New(config.Config[Settings]{})
	if err != nil {
		t.Fatal(err)
	}
	var data [][]byte
	for _, d := range documents {
		data = append(data, []byte(d))
	}
	return store.Check(data...)
}

func TestDefaultIsValid(t *testing.T) {
	s, err := check(t)
	if err != nil {
		t.Fatal(err)
	}
	if s.Log.SlogLevel() != slog.LevelInfo || s.HTTP.ReadTimeout != 30*time.Second || s.Spool.MaxFileBytes != spool.DefaultMaxFileBytes {
		t.Errorf("the default is %+v", s)
	}
}

func TestValidateNamesThePathThatIsWrong(t *testing.T) {
	for path, document := range map[string]string{
		"log.level":                 "log: {level: loud}",
		"http.read_timeout":         "http: {read_timeout: 1ms}",
		"spool.max_file_bytes":      "spool: {max_file_bytes: 1}",
		"plugins[logtail].settings": "plugins: {logtail: {settings: {f: .nan}}}",
	} {
		_, err := check(t, document)
		if err == nil || !strings.Contains(err.Error(), ": line 1, column ") || !strings.Contains(err.Error(), ": "+path+": ") {
			t.Errorf("%s: %v, want an error about %s and where it is", document, err, path)
		}
	}
}

func TestPluginsAreCollectedUnlessDisabled(t *testing.T) {
	s, err := check(t, "plugins: {off: {enabled: false, settings: {a: 1}}, on: {settings: {interval: 5s}}}")
	if err != nil {
		t.Fatal(err)
	}
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
