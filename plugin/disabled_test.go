package plugin

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// goldenDisabled is what the first version wrote.
const goldenDisabled = "testdata/disabled-1.json"

func TestDisabledPluginsOfEarlierVersionsStayDisabled(t *testing.T) {
	d := &disabled{path: goldenDisabled, log: slog.New(slog.DiscardHandler)}
	a, off := d.get("logtail")
	if !off || a.Reason != "fills the disk" || !a.Since.Equal(time.Date(2026, 11, 26, 5, 0, 0, 0, time.UTC)) {
		t.Errorf("found %+v, %t", a, off)
	}
	if _, off := d.get("hostmetrics"); off {
		t.Error("another plugin is off")
	}
	// And this version writes the same.
	want, err := os.ReadFile(goldenDisabled)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disabled.json")
	w := &disabled{path: path, log: slog.New(slog.DiscardHandler)}
	if err := w.put("logtail", &a); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("want %s, found %s, %v", want, got, err)
	}
}

func TestDamagedFileOfDisabledPluginsIsReportedAndKept(t *testing.T) {
	for name, text := range map[string]string{
		"cut":            `{"schema": 1, "plug`,
		"a newer schema": `{"schema": 2, "plugins": {}}`,
		"ambiguous":      `{"schema": 1, "plugins": {}, "plugins": {"a": {}}}`,
		"empty":          ``,
	} {
		var log waittest.Log
		path := filepath.Join(t.TempDir(), "disabled.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		d := &disabled{path: path, log: slog.New(slog.NewTextHandler(&log, nil))}
		if _, off := d.get("probe"); off || !log.Has("level=ERROR") {
			t.Errorf("%s: off %t, log %s", name, off, log.String())
		}
		if err := d.put("probe", &absence{Reason: "x"}); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: want it left for whoever repairs it, found %v", name, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s: the file was changed to %s, %v", name, got, err)
		}
	}
}

func FuzzParseDisabled(f *testing.F) {
	data, err := os.ReadFile(goldenDisabled)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"schema":1,"plugins":{"a":{"reason":"","since":"x"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parseDisabled(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseDisabled(again); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, again)
		}
	})
}
