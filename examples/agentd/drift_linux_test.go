package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/porttest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

func (s *site) drift(more ...string) result {
	s.t.Helper()
	return agentd(s.t, append([]string{"drift", "--etcd", s.etcd.URL()}, more...)...)
}

func (s *site) pin(args ...string) result {
	s.t.Helper()
	return agentd(s.t, append([]string{"pin", args[0], "--etcd", s.etcd.URL()}, args[1:]...)...)
}

// TestRealAgentDriftsAndComesBack follows one through all that can be told of it,
// as the command and as the metric of the controller that it hosts.
func TestRealAgentDriftsAndComesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	s.start("--label", "env=production", "--rollout-controller=true")
	metric := func(want rollout.DriftStatus) {
		t.Helper()
		waittest.Nil(t, "the controller's metric says "+string(want), func() error {
			text, err := get(s.url(s.admin, "/metrics"))
			if err == nil && !strings.Contains(string(text), fmt.Sprintf(`perennial_fleet_drift{environment="production",fleet="default",status=%q} 1`, want)) {
				err = fmt.Errorf("it is not among these:\n%s", text)
			}
			return err
		})
	}
	s.drift().fails(t, 3, "1 agent ", "agentd pin set")

	repository := []string{"--repo", s.repo, "--trust", s.trust}
	s.pin(append([]string{"set", "--reason", "the first", "production", "1.0.0"}, repository...)...).ok(t)
	if r := s.drift("--all").ok(t); !strings.Contains(r.stdout, "1 ok") {
		t.Errorf("installed by hand, and the bytes of the release:\n%s", r.stdout)
	}
	var pinned rollout.PinAt
	if err := json.Unmarshal([]byte(s.pin("get", "production", "-o", "json").ok(t).stdout), &pinned); err != nil {
		t.Fatal(err)
	}
	s.pin("rm", "production").ok(t)
	s.pin("set", "production", pinned.Release.String()).ok(t)
	s.drift().fails(t, 3, "cannot be told") // nothing to compare its bytes with
	s.drift(repository...).ok(t)            // but those of the manifest
	lost := s.drift("--repo", t.TempDir(), "--trust", s.trust)
	if lost.fails(t, 3); !strings.Contains(lost.stderr, "executables of 1.0.0 are not known") {
		t.Errorf("it does not say that the repository has not the release:\n%s", lost.stderr)
	}

	s.pin(append([]string{"set", "production", "^1.1.0"}, repository...)...).ok(t)
	s.drift("--environment", "production").fails(t, 7, "found 1 of 1 agent with")
	metric(rollout.DriftVersion)
	s.upgrade("1.1.0").ok(t)
	if r := s.drift().ok(t); !strings.Contains(r.stdout, "1.1.0@") {
		t.Errorf("%s", r.stdout)
	}
	metric(rollout.DriftNone)

	document := filepath.Join(t.TempDir(), "global.yaml")
	for i, level := range []string{"debug", "warn"} {
		if err := os.WriteFile(document, []byte("log: {level: "+level+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		agentd(t, "config", "put", "--etcd", s.etcd.URL(), "--wait", "1m", "global", document).ok(t)
		if i == 0 {
			s.drift().ok(t)
			s.pin("set", "--from", "a1", "--config", "global", "production").ok(t)
		}
	}
	r := s.drift()
	r.fails(t, 7)
	if !strings.Contains(r.stdout, "config/global") || !strings.Contains(r.stdout, "what is published is not what is pinned") {
		t.Errorf("%s", r.stdout)
	}
	s.drift("--no-config").ok(t)
	if r := s.pin("list").ok(t); !strings.Contains(r.stdout, "production") || strings.Count(r.stdout, "\n") != 2 {
		t.Errorf("%s", r.stdout)
	}
	s.pin("rm", "production").ok(t)
	s.pin("get", "production").fails(t, 1, "no pin")
}

func TestWatchedDriftShowsItComeAndGo(t *testing.T) {
	t.Parallel()
	s := newSimulated(t)
	s.agent("a1", "1.0.0", "test", "web", true)
	w := watchCommand(t, "drift", "--watch", "-o", "json", "--etcd", s.url)
	shows := func(what string, status rollout.DriftStatus) {
		t.Helper()
		w.until(what, func(line string) bool {
			var d rollout.Drift
			if err := json.Unmarshal([]byte(line), &d); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			return d.Worst() == status
		})
	}
	shows("an environment without a pin", rollout.DriftUnpinned)
	agentd(t, "pin", "set", "--etcd", s.url, "test", "1.1.0@sha256:"+strings.Repeat("a", 64)).ok(t)
	shows("another version", rollout.DriftVersion)
	s.put("pin/test", "\x1b[2Jgarbage")
	shows("a pin that is none", rollout.DriftUnknown)
	agentd(t, "pin", "list", "--etcd", s.url).fails(t, 1, "not a pin")
	agentd(t, "drift", "--etcd", s.url).fails(t, 3)
	agentd(t, "drift", "--etcd", s.url, "--environment", "production").fails(t, 1, "production", "test")
	agentd(t, "pin", "rm", "--etcd", s.url, "test").ok(t)
	shows("none again", rollout.DriftUnpinned)
	w.interrupt()
}

// TestDriftOfNobodyIsNoGoodNews: a whole environment that is gone, or a wrong root, would
// look like one in which all is as it is meant to be.
func TestDriftOfNobodyIsNoGoodNews(t *testing.T) {
	t.Parallel()
	s := newSimulated(t)
	drift := func() result { return agentd(t, "drift", "--etcd", s.url) }
	drift().fails(t, 3, "no agent is registered and nothing is pinned")
	agentd(t, "pin", "set", "--etcd", s.url, "production", "1.0.0@sha256:"+strings.Repeat("a", 64)).ok(t)
	r := drift()
	r.fails(t, 3, "no agent is registered of environment production")
	if !strings.Contains(r.stdout, string(rollout.DriftUnknown)) {
		t.Errorf("the table says\n%s", r.stdout)
	}
	agentd(t, "drift", "--etcd", "http://127.0.0.1:1", "--timeout", "1s").fails(t, 1, "connection refused")
}

// TestControllerThatIsNoAgentShowsDriftToo ends as it is asked to.
func TestControllerThatIsNoAgentShowsDriftToo(t *testing.T) {
	t.Parallel()
	s := newSimulated(t)
	s.agent("a1", "1.0.0", "test", "web", true)
	address := porttest.Address(t)
	w := watchCommand(t, "rollout", "controller", "--etcd", s.url, "--name", "c1", "--metrics", address)
	waittest.Nil(t, "the drift is among its metrics", func() error {
		text, err := get("http://" + address + "/metrics")
		if err == nil && !strings.Contains(string(text), `perennial_fleet_drift{environment="test",fleet="default",status="unpinned"} 1`) {
			err = fmt.Errorf("%s", text)
		}
		return err
	})
	w.interrupt()
}

func TestPinsThatMeanNothingAreWrongUsage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"nothing pinned":       {[]string{"set", "--etcd", "http://x:1", "test"}, []string{"VERSION", "--from", "--config"}},
		"two patterns":         {[]string{"set", "--etcd", "http://x:1", "--from", "a1", "test", "1.0.0"}, []string{"--from", "VERSION"}},
		"moving tag":           {[]string{"set", "--etcd", "http://x:1", "test", "latest"}, []string{"latest"}},
		"no environment":       {[]string{"set", "--etcd", "http://x:1", "a/b", "1.0.0"}, []string{"environment", "a/b"}},
		"scope that is none":   {[]string{"set", "--etcd", "http://x:1", "--config", "web", "test"}, []string{"--config", "web"}},
		"get of what is none":  {[]string{"get", "--etcd", "http://x:1", ""}, []string{"environment"}},
		"rm without a name":    {[]string{"rm", "--etcd", "http://x:1"}, []string{"ENVIRONMENT"}},
		"list of what is none": {[]string{"list", "--etcd", "http://x:1", "test"}, []string{"test"}},
	} {
		t.Run(name, func(t *testing.T) { agentd(t, append([]string{"pin"}, c.args...)...).fails(t, 2, c.says...) })
	}
}
