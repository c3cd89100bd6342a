package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/examples/internal/hosttest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// tailed counts the lines that logtail has put into the spool.
func (s *site) tailed() map[string]int {
	s.t.Helper()
	got := map[string]int{}
	s.read(func(record []byte) error {
		var r struct{ Text string }
		err := json.Unmarshal(record, &r)
		if r.Text != "" {
			got[r.Text]++
		}
		return err
	})
	return got
}

func appendLine(t *testing.T, path, line string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(f, line); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPluginsFeedTheSpoolThroughUpgradeReloadAndRestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	plugins, file := filepath.Join(s.dir, "plugins"), filepath.Join(s.dir, "app.log")
	if err := os.Mkdir(plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	follow := map[string]any{"paths": []string{file}, "interval": "20ms"}
	hosttest.Install(t, plugins, "../plugins/logtail", "1.0.0", follow)
	hosttest.Install(t, plugins, "../plugins/hostmetrics", "1.0.0", map[string]any{"interval": "100ms"})
	p := s.start("--plugins", plugins)
	var lines []string
	write := func(step string) {
		t.Helper()
		for i := range 20 {
			lines = append(lines, fmt.Sprintf("%s %d", step, i))
			appendLine(t, file, lines[len(lines)-1])
		}
	}
	arrive := func(step string) {
		t.Helper()
		waittest.Until(t, "every line is in the spool, "+step, func() bool { return len(s.tailed()) == len(lines) })
	}
	write("first")
	arrive("at first")
	write("before the upgrade")
	s.upgrade("1.1.0").ok(t)
	write("after the upgrade")
	arrive("after the upgrade")
	waittest.Until(t, "the successor's plugins are registered", func() bool {
		return slices.ContainsFunc(s.fleet().Plugins, func(p agent.PluginRecord) bool { return p.Name == "logtail" && p.State == plugin.Running })
	})
	write("before the reload")
	hosttest.Install(t, plugins, "../plugins/logtail", "1.0.1", follow)
	write("after the reload")
	waittest.Until(t, "the new plugin is registered", func() bool {
		return slices.ContainsFunc(s.fleet().Plugins, func(p agent.PluginRecord) bool { return p.Name == "logtail" && p.Version == "1.0.1" })
	})
	arrive("after the reload")
	p.stop()
	write("while stopped")
	s.start("--plugins", plugins)
	arrive("after a restart")
	if s.sampled() == 0 {
		t.Error("hostmetrics has put nothing into the spool")
	}
}

// sampled counts the samples that hostmetrics has put into the spool.
func (s *site) sampled() int {
	s.t.Helper()
	n := 0
	s.read(func(record []byte) error {
		if strings.Contains(string(record), "hostmetrics") || strings.Contains(string(record), "memory") {
			n++
		}
		return nil
	})
	return n
}

func TestPluginWhoseDigestDiffersIsRefusedAndTheAgentServes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	plugins, file := filepath.Join(s.dir, "plugins"), filepath.Join(s.dir, "app.log")
	if err := os.Mkdir(plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	appendLine(t, file, "never collected")
	hosttest.Install(t, plugins, "../plugins/logtail", "1.0.0", map[string]any{"paths": []string{file}})
	spoil(t, filepath.Join(plugins, plugin.ExecutableName("logtail")), "1.0.0", "6.6.6")
	s.start("--plugins", plugins)
	waittest.Until(t, "the refusal is in the registry", func() bool {
		return slices.ContainsFunc(s.fleet().Plugins, func(p agent.PluginRecord) bool {
			return p.State == plugin.Refused && strings.Contains(p.Reason, "sha256") && p.PID == 0
		})
	})
	if r := agentd(t, "fleet", "--etcd", s.etcd.URL()).ok(t); !strings.Contains(r.stdout, "refused") {
		t.Errorf("fleet does not tell of it:\n%s", r.stdout)
	}
	if code := s.post(`{"id":"a"}`); code != 202 {
		t.Errorf("POST /v1/records answers %d", code)
	}
	if got := s.tailed(); len(got) != 0 {
		t.Errorf("the refused plugin collected %v", got)
	}
}

func TestDisabledPluginIsNotCollected(t *testing.T) {
	s := newSite(t)
	plugins, file := filepath.Join(s.dir, "plugins"), filepath.Join(s.dir, "app.log")
	if err := os.Mkdir(plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	agentd(t, "config", "put", "--etcd", s.etcd.URL(), "global", writeFile(t, "plugins: {logtail: {enabled: false}}")).ok(t)
	hosttest.Install(t, plugins, "../plugins/logtail", "1.0.0", map[string]any{"paths": []string{file}, "interval": "20ms"})
	appendLine(t, file, "one")
	s.start("--plugins", plugins)
	waittest.Until(t, "the plugin runs", func() bool {
		return slices.ContainsFunc(s.fleet().Plugins, func(p agent.PluginRecord) bool { return p.State == plugin.Running })
	})
	if got := s.tailed(); len(got) != 0 {
		t.Errorf("a disabled plugin collected %v", got)
	}
	agentd(t, "config", "put", "--etcd", s.etcd.URL(), "global", writeFile(t, "plugins: {logtail: {enabled: true}}")).ok(t)
	waittest.Until(t, "the line is collected", func() bool { return len(s.tailed()) == 1 })
}
