package plugintest

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestHandshakeIsReadStrictly(t *testing.T) {
	for line, want := range map[string]string{
		"1|1|unix|/run/a/plugin.sock|grpc":       "/run/a/plugin.sock",
		"1|1|unix|/run/a/plugin.sock|grpc|":      "/run/a/plugin.sock",
		"":                                       "found 1 fields",
		"1|1|unix|/run/a/plugin.sock":            "found 4 fields",
		"1|1|unix|/run/a/plugin.sock|grpc||true": "found 7 fields",
		"2|1|unix|/run/a/plugin.sock|grpc|":      "core protocol: want 1",
		"1|2|unix|/run/a/plugin.sock|grpc|":      "protocol version: want 1",
		"+1|1|unix|/run/a/plugin.sock|grpc|":     "core protocol: want 1",
		"1|1|tcp|127.0.0.1:1234|grpc|":           "want unix",
		"1|1|unix|plugin.sock|grpc|":             "absolute path",
		"1|1|unix|/run/a/../plugin.sock|grpc|":   "clean absolute path",
		"1|1|unix|/run/a/plugin.sock|netrpc|":    "want grpc",
		"1|1|unix|/run/a/plugin.sock|grpc|MIIB":  "certificate: want none",
		"1|1|unix|/run/a/plugin.sock|grpc\r":     "want grpc",
	} {
		path, err := parseHandshake(line)
		if err == nil && path != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, found %q, %v", line, want, path, err)
		}
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add("1|1|unix|/run/a/plugin.sock|grpc|")
	f.Add("1|1|unix|/run/a/plugin.sock|grpc")
	f.Add("1|1|tcp|127.0.0.1:1234|grpc|MIIB|true")
	f.Fuzz(func(t *testing.T, line string) {
		path, err := parseHandshake(line)
		if err == nil && (!filepath.IsAbs(path) || !strings.HasPrefix(line, "1|1|unix|"+path+"|grpc")) {
			t.Errorf("%q became %q", line, path)
		}
	})
}
