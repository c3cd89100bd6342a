package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/examples/internal/hosttest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// plugins makes a plugins directory.
func (s *site) plugins() string {
	s.t.Helper()
	dir := filepath.Join(s.dir, "plugins")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// listed is what agentd plugin list tells of the plugin name; nothing where it
// fails.
func (s *site) listed(name string, where ...string) listedPlugin {
	s.t.Helper()
	r := agentd(s.t, append([]string{"plugin", "list", "-o", "json"}, where...)...)
	if r.code != 0 {
		return listedPlugin{}
	}
	var all []listedPlugin
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		s.t.Fatal(err)
	}
	if i := slices.IndexFunc(all, func(p listedPlugin) bool { return p.Name == name }); i >= 0 {
		return all[i]
	}
	return listedPlugin{}
}

// TestOperatorStopsAPluginThatHurtsAndBringsItBack by the commands, with and
// without etcd, and finds in its log what it was about.
func TestOperatorStopsAPluginThatHurtsAndBringsItBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := s.plugins()
	hosttest.Install(t, dir, "../plugins/hostmetrics", "1.0.0", map[string]any{"interval": "100ms"})
	here, there := []string{"--state-dir", s.state}, []string{"--etcd", s.etcd.URL(), "-l", ".plugin=hostmetrics"}
	change := func(command string, more ...string) result {
		t.Helper()
		return agentd(t, slices.Concat([]string{"plugin", command}, here, more, []string{"hostmetrics"})...)
	}
	agentd(t, append([]string{"plugin", "list"}, here...)...).fails(t, 1, "--state-dir")
	p := s.start("--plugins", dir)
	var first listedPlugin
	waittest.Until(t, "the plugin runs and is in the registry", func() bool {
		first = s.listed("hostmetrics", there...)
		return first.State == plugin.Running
	})
	if first.Agent != "a1" || first.PID == 0 || first.Generation != 1 || first.Usage.RSSBytes == 0 || first.Protocol == 0 || len(first.Capabilities) == 0 || !strings.HasPrefix(first.Digest, "sha256:") {
		t.Errorf("the registry tells %+v", first)
	}
	if r := agentd(t, "plugin", "list", "--etcd", s.etcd.URL(), "--agent", "a1").ok(t); !strings.Contains(r.stdout, "hostmetrics") || !strings.Contains(r.stdout, "MiB") {
		t.Errorf("the list is\n%s", r.stdout)
	}
	if r := agentd(t, append([]string{"plugin", "list"}, here...)...).ok(t); !strings.Contains(r.stdout, " GEN ") || !strings.Contains(r.stdout, " TASKS ") {
		t.Errorf("the list is\n%s", r.stdout)
	}
	agentd(t, "plugin", "list", "--etcd", s.etcd.URL(), "--agent", "a2").fails(t, 1, "no agent a2")

	change("restart").ok(t)
	second := s.listed("hostmetrics", here...)
	if second.PID == first.PID || second.Generation != 2 || second.State != plugin.Running {
		t.Errorf("after the restart: %+v", second)
	}
	change("disable").fails(t, 2, "--reason")
	if r := change("disable", "--reason", "eats the disk").ok(t); !strings.Contains(r.stdout, "hostmetrics 1.0.0 is disabled") {
		t.Errorf("disable prints\n%s", r.stdout)
	}
	waittest.Until(t, "the fleet sees that it is disabled", func() bool {
		r := agentd(t, "fleet", "--etcd", s.etcd.URL()).ok(t)
		return strings.Contains(r.stdout, "hostmetrics 1.0.0 disabled")
	})
	if off := s.listed("hostmetrics", there...); !strings.Contains(off.Reason, "eats the disk") || off.PID != 0 {
		t.Errorf("the registry tells %+v", off)
	}
	change("restart").fails(t, 1, "disabled", "eats the disk")
	p.stop()
	change("enable").fails(t, 1, "no agent runs")
	s.start("--plugins", dir)
	waittest.Until(t, "it is disabled still after a start", func() bool { return s.listed("hostmetrics", here...).State == plugin.Disabled })
	if r := change("enable").ok(t); strings.Contains(r.stdout, "disabled") {
		t.Errorf("enable prints\n%s", r.stdout)
	}
	waittest.Until(t, "it runs again", func() bool { return s.listed("hostmetrics", here...).State == plugin.Running })
	agentd(t, append([]string{"plugin", "restart", "nobody"}, here...)...).fails(t, 1, "nobody", "agentd plugin list")
	agentd(t, append([]string{"plugin", "restart", "../x"}, here...)...).fails(t, 2, "../x")
}

// TestLogOfAPluginIsFollowedThroughItsRestart: the operator who watches a plugin
// does so when something changes.
func TestLogOfAPluginIsFollowedThroughItsRestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := s.plugins()
	installJobs(t, dir)
	agentd(t, "plugin", "logs", "--state-dir", s.state, "jobs").fails(t, 1, "no log")
	s.start("--plugins", dir)
	out, err := os.Create(filepath.Join(s.dir, "followed"))
	if err != nil {
		t.Fatal(err)
	}
	follow := exec.Command(binary(t, "1.0.0"), "plugin", "logs", "--state-dir", s.state, "-f", "jobs")
	follow.Stdout, follow.Stderr = out, out
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	lines := func() string {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	waittest.Until(t, "its first lines are there", func() bool { return strings.Contains(lines(), "\n") })
	before := strings.Count(lines(), "\n")
	agentd(t, "plugin", "restart", "--state-dir", s.state, "jobs").ok(t)
	waittest.Until(t, "those of the next process follow", func() bool { return strings.Count(lines(), "\n") > before })
	if r := agentd(t, "plugin", "logs", "--state-dir", s.state, "-n", "1", "jobs").ok(t); strings.Count(r.stdout, "\n") != 1 || !strings.Contains(lines(), r.stdout) {
		t.Errorf("the last line is %q, followed were\n%s", r.stdout, lines())
	}
	if err := follow.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(follow.Wait(), out.Close()); err != nil {
		t.Errorf("an interrupt: %v", err)
	}
}

// TestPluginOfTheReleaseKeyRunsWhereSignaturesAreRequired, and what somebody put
// there without it, or changed after it was signed, does not.
func TestPluginOfTheReleaseKeyRunsWhereSignaturesAreRequired(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := s.plugins()
	executable, err := jobsExecutable()
	if err != nil {
		t.Fatal(err)
	}
	install := func(settings string, more ...string) result {
		t.Helper()
		manifest := writeFile(t, "schema: 1\nname: jobs\nversion: 0.0.0\nprotocol: [1]\ncapabilities: [run]\nsettings: "+settings+"\n")
		args := override([]string{"install", "--manifest", manifest, "--plugin-version", "1.0.0", "--dir", dir}, more)
		return agentd(t, slices.Concat([]string{"plugin"}, args, []string{executable})...)
	}
	here := []string{"--state-dir", s.state}
	install("{}", "--key", s.key).ok(t)
	s.start("--plugins", dir, "--require-signed-plugins=true")
	var first listedPlugin
	waittest.Until(t, "the signed plugin runs", func() bool {
		first = s.listed("jobs", here...)
		return first.State == plugin.Running
	})
	public, err := os.ReadFile(s.trust)
	// minisign writes a key's id without the zeros that it begins with.
	if err != nil || first.Signed == "" || !strings.Contains(string(public), strings.TrimLeft(first.Signed, "0")) {
		t.Errorf("it is said to be signed by %q, the key is %s (%v)", first.Signed, public, err)
	}
	install("{more: 1}").ok(t)
	waittest.Until(t, "the unsigned one is refused", func() bool {
		now := s.listed("jobs", here...)
		return now.PID == first.PID && strings.Contains(now.Reason, "signed")
	})
	var done installedPlugin
	if err := json.Unmarshal([]byte(install("{more: 2}", "--key", s.key, "-o", "json").ok(t).stdout), &done); err != nil || done.Signed != first.Signed || done.Digest != first.Digest {
		t.Errorf("%+v, %v", done, err)
	}
	waittest.Until(t, "the next one that is signed runs", func() bool {
		now := s.listed("jobs", here...)
		return now.State == plugin.Running && now.PID != first.PID && now.Generation == 2
	})
	install("{}", "--key", s.key, "--plugin-version", "1.0").fails(t, 2, "--plugin-version")
	install("{}", "--key", s.trust).fails(t, 1, "key")
	install("{}", "--dir", filepath.Join(s.dir, "nowhere")).fails(t, 1, "--dir", "nowhere")
}
