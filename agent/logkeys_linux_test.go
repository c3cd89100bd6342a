package agent

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestEveryLineOfTheLogSaysWhoWroteItAndWhatItIsAbout: of every line who wrote it, of those
// of an attempt and of a plugin which. The scan in internal/logkey sees that a
// key is written, not that it gets through to the handler.
func TestEveryLineOfTheLogSaysWhoWroteItAndWhatItIsAbout(t *testing.T) {
	c := newCounting(t, "logs")
	c.env.JSON = true
	c.start()
	c.plugin("1.0.0")
	c.upgrades(build{Version: "1.1.0"})
	c.plugin("1.1.0")
	seen := map[string]int{}
	about := map[string][]string{"upgrade": {"attempt", "release"}, "release downloaded": {"attempt", "release"}, "plugin is running": {"plugin", "plugin_version"}, "plugin goes on under this host": {"plugin", "plugin_version"}}
	for text := range strings.Lines(c.said()) {
		line := map[string]any{}
		if !strings.HasPrefix(text, "{") {
			continue // of Go's runtime or the test's own
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		message, _ := line["msg"].(string)
		seen[message]++
		for _, key := range slices.Concat([]string{"agent", "version"}, about[message]) {
			if value, _ := line[key].(string); value == "" {
				t.Errorf("no %s: %s", key, text)
			}
			if n := strings.Count(text, `"`+key+`":`); n != 1 {
				t.Errorf("%d times %s: %s", n, key, text)
			}
		}
		if line["agent"] != "logs" {
			t.Errorf("of another agent: %s", text)
		}
		seen[message+" of "+line["version"].(string)]++ //nolint:forcetypeassert // looked at above
	}
	for _, want := range []string{"upgrade of 1.0.0", "upgrade of 1.1.0", "release downloaded of 1.0.0", "plugin is running of 1.0.0", "plugin goes on under this host of 1.1.0"} {
		if seen[want] == 0 {
			t.Errorf("no line %q: %v", want, seen)
		}
	}
}
