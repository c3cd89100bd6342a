package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// counting is a member with the plugin counter.
type counting struct {
	*crash
}

func newCounting(t *testing.T, id string) *counting {
	t.Helper()
	f := newFleet(t)
	c := &counting{&crash{member: f.member(id), pins: map[string]release.Pin{}}}
	c.env.Plugins = t.TempDir()
	exe := filepath.Join(t.TempDir(), "counter")
	if err := reexec.Copy(exe, build{Plugin: "counter", Version: "1.0.0"}); err != nil {
		t.Fatal(err)
	}
	m := plugin.Manifest{Name: "counter", Version: "1.0.0", Capabilities: []string{"count"}, Host: ">=1.0.0 <2.0.0"}
	if _, err := plugin.Install(c.env.Plugins, exe, m); err != nil {
		t.Fatal(err)
	}
	return c
}

// plugin waits until version runs the plugin, and returns its status.
func (c *counting) plugin(version string) plugin.Status {
	c.Helper()
	c.runs(version)
	var found plugin.Status
	waittest.Nil(c, "the plugin runs under "+version, func() error {
		text, err := c.get("/plugins")
		var all []plugin.Status
		if err == nil {
			err = json.Unmarshal([]byte(text), &all)
		}
		if err == nil && (len(all) != 1 || all[0].State != plugin.Running) {
			err = fmt.Errorf("found %+v", all)
		}
		if err == nil {
			found = all[0]
		}
		return err
	})
	return found
}

// kept is how many numbers have been collected.
func (c *counting) kept() int {
	c.Helper()
	data, err := os.ReadFile(filepath.Join(c.state, collectedFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.Fatal(err)
	}
	return bytes.Count(data, []byte("\n"))
}

// goesOn expects the plugin of before under version, still counting.
func (c *counting) goesOn(version string, before plugin.Status) {
	c.Helper()
	s := c.plugin(version)
	if s.PID != before.PID || s.Generation != before.Generation || s.Restarts != before.Restarts {
		c.Errorf("under %s the plugin is %+v, it was %+v", version, s, before)
	}
	n := c.kept()
	waittest.Until(c, "the plugin counts on", func() bool { return c.kept() > n+50 })
}

func TestPluginKeepsItsProcessAndItsStreamWhateverBecomesOfItsHost(t *testing.T) {
	t.Parallel()
	for id, mode := range map[string]upgrade.Supervision{"alone": upgrade.SuperviseNever, "supervised": upgrade.SuperviseAlways} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			c := newCounting(t, id)
			c.env.Supervise = mode
			c.start()
			first := c.plugin("1.0.0")
			c.rollsBack(first)
			c.changes(first)
			if mode == upgrade.SuperviseNever {
				c.dies(first)
			}
			c.stopsCounting(first)
		})
	}
}

// TestHostIsUpgradedThoughItsPluginStandsStill: the next one has it started
// again, unless the end of the one before has woken it.
func TestHostIsUpgradedThoughItsPluginStandsStill(t *testing.T) {
	t.Parallel()
	c := newCounting(t, "still")
	c.start()
	if err := syscall.Kill(c.plugin("1.0.0").PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c.ends(c.member.order(build{Version: "1.1.0"}), upgrade.Committed)
	c.goesOn("1.1.0", c.plugin("1.1.0"))
}

// rollsBack offers two releases that are rolled back in probation.
func (c *counting) rollsBack(first plugin.Status) {
	c.Helper()
	c.ends(c.member.order(build{Version: "1.1.1", Sick: true}), upgrade.RolledBack)
	c.goesOn("1.0.0", first)
	end, err := c.dir.Follow(c.ctx(), c.member.order(build{Version: "1.1.2", Mute: true}), c.id, func(upgrade.Status) {})
	if err != nil || end.State != upgrade.RolledBack || !strings.Contains(end.Reason, "plugins: plugin counter runs, and this host could not go on with it") {
		c.Errorf("a release that cannot talk to plugins: %s (%s), %v", end.State, end.Reason, err)
	}
	c.goesOn("1.0.0", first)
}

// changes upgrades the host and, as an operator does, takes that back.
func (c *counting) changes(first plugin.Status) {
	c.Helper()
	c.ends(c.member.order(build{Version: "1.1.0"}), upgrade.Committed)
	c.goesOn("1.1.0", first)
	back, err := c.dir.Order(c.ctx(), c.id, upgrade.Request{Action: upgrade.ActionRollback, Pin: release.Pin{Version: "1.0.0"}, By: "test"})
	if err != nil {
		c.Fatal(err)
	}
	c.ends(back, upgrade.Committed)
	c.goesOn("1.0.0", first)
}

// dies kills the host and starts it again.
func (c *counting) dies(first plugin.Status) {
	c.Helper()
	c.endAll()
	if err := syscall.Kill(first.PID, 0); err != nil {
		c.Errorf("the plugin ended with its host: %v", err)
	}
	c.launch(filepath.Join(c.state, "current", "agent"))
	c.takesOver()
	c.goesOn("1.0.0", first)
}

// stopsCounting stops the agent, which takes the plugin with it, and looks at
// all that was collected.
func (c *counting) stopsCounting(first plugin.Status) {
	c.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.Fatal(err)
	}
	waittest.Next(c, "the agent ends", c.done)
	if c.err != nil {
		c.Errorf("the agent was told to stop and ended with %v", c.err)
	}
	waittest.Until(c, "the plugin has ended", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", first.PID))
		// A supervisor reaps it. Without one that is up to whoever is init here.
		return err != nil || c.env.Supervise == upgrade.SuperviseNever && bytes.Contains(stat, []byte(") Z "))
	})
	data, err := os.ReadFile(filepath.Join(c.state, collectedFile))
	if err != nil {
		c.Fatal(err)
	}
	for i, line := range strings.Fields(string(data)) {
		if line != strconv.Itoa(i+1) {
			c.Fatalf("line %d of what was collected is %s", i+1, line)
		}
	}
}
