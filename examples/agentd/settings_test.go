package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestSettingsOfTheHostLieBelowThoseOfTheFleet: a host with a small disk says
// so itself, and the fleet's word goes before it.
func TestSettingsOfTheHostLieBelowThoseOfTheFleet(t *testing.T) {
	s := newSite(t)
	path := writeFile(t, "http: {read_timeout: 20s}\nspool: {max_file_bytes: 4096}\n")
	t.Setenv(settingsPrefix+"HTTP_READ_TIMEOUT", "15s")
	t.Setenv(settingsPrefix+"HTTP_READ_TIMEUOT", "15s")
	s.start("--settings", path)
	layers := func() (names []string, c config.Status) {
		e := s.fleet()
		if e.Status == nil || e.Status.Config == nil {
			return nil, c
		}
		for _, l := range e.Status.Config.Layers {
			names = append(names, l.Name)
		}
		return names, *e.Status.Config
	}
	waittest.Until(t, "the host's settings are in force", func() bool {
		names, _ := layers()
		return slices.Equal(names, []string{path, "environment"})
	})
	for range 3 {
		s.post(`{"id":"x","pad":"` + strings.Repeat("y", 5000) + `"}`)
	}
	if n := len(spoolFiles(t, s)); n < 3 {
		t.Errorf("%d files in the spool, want one for each record with spool.max_file_bytes 4096 in %s", n, path)
	}
	if _, c := layers(); len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "HTTP_READ_TIMEUOT") {
		t.Errorf("want a note of the misspelt variable, got %q", c.Notes)
	}
	agentd(t, "config", "put", "--etcd", s.etcd.URL(), "global", writeFile(t, "spool: {max_file_bytes: 8192}")).ok(t)
	waittest.Until(t, "the fleet's settings lie over them", func() bool {
		names, c := layers()
		return c.Running != 0 && slices.Equal(names, []string{path, "environment", "/agents/config/global"})
	})
}

// TestRunNamesWhatIsWrongInSettingsOfTheHost.
func TestRunNamesWhatIsWrongInSettingsOfTheHost(t *testing.T) {
	s := newSite(t)
	path := writeFile(t, "http:\n  read_timeuot: 20s\n")
	agentd(t, s.runArgs("--settings", path)...).fails(t, 1, path, "line 2, column 3", "http.read_timeuot")
	t.Setenv(settingsPrefix+"SPOOL_MAX_FILE_BYTES", "64MB")
	agentd(t, s.runArgs()...).fails(t, 1, settingsPrefix+"SPOOL_MAX_FILE_BYTES", "spool.max_file_bytes")
}
