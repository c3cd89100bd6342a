package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade"
)

// is makes or ends the cause of an alert.
func (c *counting) is(name string, so bool) {
	c.Helper()
	path := filepath.Join(c.state, name)
	err := os.Remove(path)
	if so {
		err = os.WriteFile(path, nil, 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Fatal(err)
	}
}

// responded waits until the registry tells that outcome, and how the alert
// stands.
func (c *counting) responded(alert, action string, want Outcome) ResponseReport {
	c.Helper()
	var found ResponseReport
	waittest.Nil(c, fmt.Sprintf("%s of %s is %s", action, alert, want), func() error {
		all := c.registered().Status.Responses
		for _, r := range all {
			if r.Alert == alert && r.Action == action && r.Outcome == want {
				found = r
				return nil
			}
		}
		return fmt.Errorf("responses: %+v", all)
	})
	return found
}

// resolves waits for the end of an alert.
func (c *counting) resolves(alert string) {
	c.Helper()
	waittest.Nil(c, alert+" is resolved", func() error {
		text, err := c.get("/metrics")
		if err == nil && !strings.Contains(text, `perennial_health_alert_firing{alert="`+alert+`",severity="warning"} 0`) {
			err = errors.New("it fires")
		}
		return err
	})
}

// another waits until the plugin runs in another process than before.
func (c *counting) another(version string, before plugin.Status) plugin.Status {
	c.Helper()
	var now plugin.Status
	waittest.Until(c, "the plugin was restarted", func() bool {
		now = c.plugin(version)
		return now.PID != before.PID
	})
	return now
}

func newResponding(t *testing.T, id string, responses ...string) *counting {
	t.Helper()
	c := newCounting(t, id)
	c.env.Respond = responses
	c.start()
	return c
}

func TestAlertRestartsAPluginOnceWithinTheLimitAlsoAfterAnUpgrade(t *testing.T) {
	t.Parallel()
	c := newResponding(t, "hot", "hot=restart-plugin:counter")
	first := c.plugin("1.0.0")
	c.is("hot", true)
	c.responded("hot", "restart-plugin:counter", ResponseDone)
	second := c.another("1.0.0", first)
	c.is("hot", false)
	c.resolves("hot")
	c.is("hot", true)
	if r := c.responded("hot", "restart-plugin:counter", ResponseLimited); !strings.Contains(r.Detail, "done 1 times within 1h") {
		t.Errorf("%+v", r)
	}
	text, err := c.get("/metrics")
	for _, want := range []string{`outcome="done"} 1`, `outcome="limited"} 1`, `outcome="failed"} 0`} {
		if !strings.Contains(text, `perennial_alert_responses_total{action="restart-plugin:counter",alert="hot",`+want) {
			t.Errorf("no %s in the metrics, %v", want, err)
		}
	}
	c.is("hot", false)
	c.resolves("hot")
	c.ends(c.member.order(build{Version: "1.1.0"}), upgrade.Committed)
	c.plugin("1.1.0")
	c.is("hot", true)
	waittest.Nil(t, "the next release sees the alert", func() error {
		text, err := c.get("/metrics")
		if err == nil && !strings.Contains(text, `perennial_alert_responses_total{action="restart-plugin:counter",alert="hot",outcome="limited"} 1`) {
			err = errors.New("it has not responded")
		}
		return err
	})
	if now := c.plugin("1.1.0"); now.PID != second.PID {
		t.Errorf("the plugin was restarted again within the limit: %+v, it was %+v", now, second)
	}
}

func TestResponseWaitsForTheEndOfAnUpgradeAndIsTheIncumbents(t *testing.T) {
	t.Parallel()
	c := newResponding(t, "upgrading", "upgrading=restart-plugin:counter")
	before := c.plugin("1.0.0")
	c.ends(c.member.order(build{Version: "1.1.0", Sick: true}), upgrade.RolledBack)
	c.responded("upgrading", "restart-plugin:counter", ResponseDone)
	c.another("1.0.0", before)
	said := c.said()
	waits := strings.Index(said, "response to an alert waits for the end of the upgrade")
	over := strings.Index(said, "state=rolled_back")
	acts := strings.Index(said, "responding to an alert")
	if waits < 0 || over < waits || acts < over || strings.Count(said, "responding to an alert") != 1 {
		t.Errorf("it waited at %d, the rollback was over at %d, it responded at %d, %d times", waits, over, acts, strings.Count(said, "responding to an alert"))
	}
}

func TestAlertDrainsAndRefusesUpgradesUntilItIsResolved(t *testing.T) {
	t.Parallel()
	c := newResponding(t, "sick", "sick=drain", "sick=refuse-upgrades")
	c.plugin("1.0.0")
	c.is("sick", true)
	c.responded("sick", "drain", ResponseDone)
	c.responded("sick", "refuse-upgrades", ResponseDone)
	if text, err := c.get("/readyz"); err != nil || text != "not ready: response/sick\n" {
		t.Errorf("%q, %v", text, err)
	}
	order := c.member.order(build{Version: "1.1.0"})
	end, err := c.dir.Follow(c.ctx(), order, c.id, func(upgrade.Status) {})
	if err != nil || end.State != upgrade.Failed || !strings.Contains(end.Reason, "alert sick fires") {
		t.Errorf("an order while upgrades are refused ended %s (%s), %v", end.State, end.Reason, err)
	}
	c.is("sick", false)
	c.responded("sick", "drain", ResponseUndone)
	c.responded("sick", "refuse-upgrades", ResponseUndone)
	if text, err := c.get("/readyz"); err != nil || text != "ok\n" {
		t.Errorf("%q, %v", text, err)
	}
	again, err := c.dir.Order(c.ctx(), c.id, upgrade.Request{Pin: order.Pin, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	c.ends(again, upgrade.Committed)
}

func TestAlertThatStopsTheAgentDoesNotStopTheNextProcess(t *testing.T) {
	t.Parallel()
	c := newResponding(t, "dead", "dead=stop")
	c.plugin("1.0.0")
	c.is("dead", true)
	c.fails("stopped by an alert: dead fires, with 1 above 0")
	c.start() // its cause is still there
	c.takesOver()
	c.responded("dead", "stop", ResponseLimited)
	select {
	case <-c.done:
		t.Errorf("the agent was stopped again: %v", c.err)
	default:
	}
	// A record that cannot be read is no licence.
	c.kill()
	if err := os.WriteFile(filepath.Join(c.state, responseFile), []byte(`{"schema": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start()
	c.takesOver()
	if r := c.responded("dead", "stop", ResponseFailed); !strings.Contains(r.Detail, "schema 99") {
		t.Errorf("%+v", r)
	}
	if data, err := os.ReadFile(filepath.Join(c.state, responseFile)); err != nil || !strings.Contains(string(data), "99") {
		t.Errorf("what a newer release wrote was replaced by %s, %v", data, err)
	}
}

func TestResponseThatCannotBeMadeIsRefused(t *testing.T) {
	base := Config{
		ID: "a1", Version: "1.0.0", StateDir: t.TempDir(), Etcd: EtcdConfig{Endpoints: []string{"http://127.0.0.1:1"}},
		Start: func(context.Context, *Agent) error { return nil }, Plugins: plugin.Config{Dir: t.TempDir()},
	}
	for text, want := range map[string]string{
		"memory=drain": "",
		"memory=restart-plugin:logtail,limit=3,within=30m": "",
		"no-such=drain":                  "no rule has that name",
		"memory=reboot":                  `action "reboot"`,
		"memory=restart-plugin":          "want the name",
		"memory=restart-plugin:../x":     "want the name",
		"memory=drain:logtail":           "about no plugin",
		"memory=refuse-upgrades,limit=2": "no limit",
		"memory=stop,limit=101":          "limit 101",
		"memory=stop,within=200h":        "within 200h",
		"memory=call":                    "Do is missing",
		"memory":                         "want <alert>=<action>",
		"memory=stop,limit=0":            "more than 0",
		"memory=stop,often=1":            "want limit=",
		"memory=stop,limit=x":            "limit=x",
	} {
		cfg := base
		r, err := ParseResponse(text)
		if err == nil {
			cfg.Responses = []Response{r}
			_, err = New(cfg)
		}
		if (want == "") == errors.Is(err, ErrResponse) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
	cfg := base
	cfg.Responses = []Response{{Alert: "memory", Action: RespondDrain}, {Alert: "memory", Action: RespondDrain}}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("the same response twice: %v", err)
	}
	cfg.Responses = []Response{{Alert: health.MemoryPercent, Action: RespondDrain}}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "there are") {
		t.Errorf("an indicator's name: %v", err)
	}
}
