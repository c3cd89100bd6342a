package plugin_test

import (
	"context"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

func TestRehearsalTellsWhetherAHostCouldGoOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := spec{Name: "probe", Version: "1.0.0"}
	m := manifest(s)
	m.Host = "<2.0.0"
	if _, err := plugin.Install(dir, build(t, s), m); err != nil {
		t.Fatal(err)
	}
	h := startHost(t, dir, nil)
	first := h.awaitState(t, "probe", plugin.Running)
	for name, c := range map[string]struct {
		adjust func(*plugin.Config)
		says   string
	}{
		"it could":            {func(c *plugin.Config) { c.HostVersion = "1.9.0" }, ""},
		"it is too new":       {func(c *plugin.Config) { c.HostVersion = "2.0.0" }, "wants a host <2.0.0, found 2.0.0"},
		"it has no time":      {func(c *plugin.Config) { c.HealthTimeout = time.Nanosecond }, "plugin probe runs, and this host could not go on with it"},
		"it has other ones":   {func(c *plugin.Config) { c.StateDir = t.TempDir() }, ""},
		"it wants a key":      {func(c *plugin.Config) { c.RequireSigned, c.Verify = true, noKey }, "it is not signed"},
		"there are none ever": {func(c *plugin.Config) { c.Dir, c.StateDir = "", "" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := plugin.Config{Dir: dir, StateDir: h.state, HostVersion: "1.9.0"}
			c.adjust(&cfg)
			other, err := plugin.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = other.Rehearse(context.Background())
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("want %q, found %v", c.says, err)
			}
		})
	}
	if got, err := h.ask(t, "probe", plugin.Task{Capability: "count", Payload: []byte("1")}); err != nil || got != "1.0.0 1" {
		t.Errorf("after the rehearsals: %q, %v", got, err)
	}
	h.same(t, first)
}

// TestHostIsNotRefusedForAPluginThatHangs: nobody could upgrade a host before
// its worst plugin is mended.
func TestHostIsNotRefusedForAPluginThatHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	install(t, dir, spec{Name: "stands", Version: "1.0.0"})
	install(t, dir, spec{Name: "hangs", Version: "1.0.0", Misbehave: hangsEverywhere})
	h := startHost(t, dir, func(c *plugin.Config) { c.HealthEvery = time.Hour })
	stands := h.awaitState(t, "stands", plugin.Running)
	h.awaitState(t, "hangs", plugin.Running)
	if err := syscall.Kill(stands.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	rehearse := func(limit time.Duration, says ...string) error {
		t.Helper()
		var log waittest.Log
		other, err := plugin.New(plugin.Config{Dir: dir, StateDir: h.state, HealthTimeout: limit, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), waittest.Patience)
		defer cancel()
		err = other.Rehearse(ctx)
		for _, text := range says {
			if !log.Has(text) {
				t.Errorf("%q is not told:\n%s", text, &log)
			}
		}
		return err
	}
	if err := rehearse(2*time.Second, "plugin=stands state=stopped", "plugin=hangs state=silent"); err != nil {
		t.Error(err)
	}
	// One that has no time hears nothing of either.
	if err := rehearse(time.Nanosecond); err == nil || !strings.Contains(err.Error(), "plugin hangs runs") || strings.Contains(err.Error(), "plugin stands") {
		t.Errorf("a host that hears nothing of a plugin that is not stopped: %v", err)
	}
	// The next host goes on with what works, and has the others started again.
	h.Detach()
	h.end()
	other := h.next(t, func(c *plugin.Config) { c.HealthTimeout = time.Second })
	other.awaitAnother(t, "stands", stands)
	awaitGone(t, stands.PID)
}

func noKey(_, _ []byte) (string, error) { return "", plugin.ErrUntrusted }
