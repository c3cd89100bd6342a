package agent

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/plugin"
)

// TestWorstOfAnAgentIsFoundWhereverItIs: an operator would otherwise have to read
// all of it.
func TestWorstOfAnAgentIsFoundWhereverItIs(t *testing.T) {
	for name, c := range map[string]struct {
		damage   func(*Registration, *Status, []PluginRecord)
		severity Severity
		worst    string
	}{
		"nothing": {func(*Registration, *Status, []PluginRecord) {}, SeverityOK, ""},
		"a plugin": {func(_ *Registration, _ *Status, p []PluginRecord) {
			p[3].State, p[3].Reason = plugin.Quarantined, "died 5 times\nin 10m0s"
		}, SeverityWarning, "plugins/reader-003 quarantined: died 5 times in 10m0s"},
		"a plugin that must be there": {func(_ *Registration, _ *Status, p []PluginRecord) {
			p[0].State = plugin.Degraded
			p[3].State, p[3].Required = plugin.Refused, true
		}, SeverityCritical, "plugins/reader-003 refused"},
		"a check": {func(_ *Registration, s *Status, _ []PluginRecord) {
			s.Health.Ready = false
			s.Health.Checks[2].OK, s.Health.Checks[2].Error = false, "disk full"
		}, SeverityCritical, "checks/check-2 fails: disk full"},
		"a drain": {func(r *Registration, s *Status, _ []PluginRecord) {
			r.State.State, s.Health.Ready = Terminating, false
			s.Health.Checks = append(s.Health.Checks, health.CheckReport{Name: conditionDraining, Kind: health.Readiness, Error: "stop was asked for"})
		}, SeverityWarning, "checks/draining fails: stop was asked for"},
		"an alert": {func(_ *Registration, s *Status, _ []PluginRecord) {
			s.Health.Alerts = []health.Alert{{Name: "memory", Indicator: "indicator_1", Value: 91.25, Threshold: 85, Unit: "percent", Severity: health.Critical}}
		}, SeverityCritical, "indicators/memory firing: 91.25 percent, above 85 percent"},
		"a configuration": {func(_ *Registration, s *Status, _ []PluginRecord) {
			s.Config.LastFailed = failure9()
			s.Config.Wanted, s.Config.WantedDigest = 9, "other"
		}, SeverityWarning, "config r4711, r9 refused: /agents/config/global; unknown field"},
		"a watch": {func(_ *Registration, s *Status, _ []PluginRecord) { s.Presence.Stale = "nothing was heard for 2m0s" },
			SeverityWarning, "registration stale: nothing was heard for 2m0s"},
		"an order": {func(_ *Registration, s *Status, _ []PluginRecord) { s.OrderError = "has no id" },
			SeverityWarning, "upgrade/order refused: has no id"},
		"a plan": {func(_ *Registration, s *Status, _ []PluginRecord) { s.RolloutError = "has no stages" },
			SeverityWarning, "upgrade/rollout not followed: has no stages"},
		"another executable": {func(r *Registration, s *Status, _ []PluginRecord) {
			r.Version, r.BinaryDigest = "9.9.9", strings.Repeat("e", 64) // as it says itself
			r.ManifestDigest = s.Upgrade.Running.Manifest
		}, SeverityCritical, "upgrade/release replaced: the executable that runs is not the one that was installed"},
		"a registration of the next release": {func(r *Registration, s *Status, _ []PluginRecord) {
			r.Version, r.BinaryDigest, r.ManifestDigest = "9.9.9", strings.Repeat("e", 64), "sha256:"+strings.Repeat("f", 64)
		}, SeverityOK, ""},
		"a withdrawn release": {func(_ *Registration, s *Status, _ []PluginRecord) { s.Upgrade.Yanked = "loses records" },
			SeverityWarning, "upgrade/release withdrawn: loses records"},
	} {
		t.Run(name, func(t *testing.T) {
			reg, s, plugins := busyStatus(5)
			c.damage(&reg, &s, plugins)
			tree := treeOf(reg, s, plugins)
			if tree.Severity != c.severity || tree.Worst() != c.worst {
				t.Errorf("%s, %q; want %s, %q", tree.Severity, tree.Worst(), c.severity, c.worst)
			}
			// And so it is for who reads it in etcd.
			read, _ := written(t, withTree(reg, s, plugins))
			e := Entry{Registration: reg, Status: &read}
			if severity, worst := e.Standing(s.At); severity != c.severity || worst != c.worst {
				t.Errorf("a reader finds %s, %q; want %s, %q", severity, worst, c.severity, c.worst)
			}
		})
	}
}

// TestTreeAsTextIsFitForATerminal: reasons quote plugins and other programs.
func TestTreeAsTextIsFitForATerminal(t *testing.T) {
	at := time.Date(2026, 11, 26, 10, 1, 0, 0, time.UTC)
	tree := Node{Name: "a1", State: "running", Reason: "serving", Since: at}
	tree.add(Node{Name: "registration", State: "present"})
	tree.add(Node{Name: "plugins", State: "1 running, 3 not", LeftOut: 2, Children: []Node{{Name: "p", Severity: SeverityWarning, State: "refused", Reason: "\x1b[2J\nforged"}}})
	const want = "a1 running: serving (since 2026-11-26 10:01:00)\n├ registration present\n└ plugins 1 running, 3 not\n" +
		"  ├ p [warning] refused: \uFFFD[2J forged\n  └ and 2 more, none worse\n"
	if got := tree.String(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestStatusOfEveryReleaseGivesATree: a fleet has old and new releases side by
// side.
func TestStatusOfEveryReleaseGivesATree(t *testing.T) {
	k := newKeys("")
	for name, want := range map[string]string{
		"status-1.json":             "config r7, r9 refused: /agents/config/global; unknown field greting",
		"status-1-presence.json":    "registration stale: nothing was heard on the watch for 1m16s",
		"status-1-held.json":        "",
		"status-1-order-error.json": "upgrade/order refused: /agents/order/a1 has schema 2, this version reads 1: written by a newer version",
		"status-1-yanked.json":      "upgrade/release withdrawn: loses records",
		"status-1-tree.json":        "plugins/reader-003 quarantined: died 5 times in 10m0s",
	} {
		all := entriesOf(&Directory{keys: k}, map[string]etcdkv.Value{
			k.registry("a1"): {Data: golden(t, "registration-1.json")}, k.status("a1"): {Data: golden(t, name)},
		})
		e := all[0]
		if tree := e.Tree(); e.Error != "" || tree.Worst() != want || tree.Name != "a1" || tree.Child(nodeUpgrade) == nil {
			t.Errorf("%s: %s, %q, want %q:\n%s", name, e.Error, tree.Worst(), want, tree)
		}
	}
}

// TestReleaseThatKnowsNoTreeReadsWhatItDidBefore: it follows orders and watches
// configurations of new releases. What it reads is written down here as it was.
func TestReleaseThatKnowsNoTreeReadsWhatItDidBefore(t *testing.T) {
	reg, s, plugins := busyStatus(20)
	s.Health.Ready = false
	s.Health.Checks[1].OK = false
	data, err := withTree(reg, s, plugins).value()
	if err != nil {
		t.Fatal(err)
	}
	type ref struct{ Version, Manifest, Binary string }
	var old struct {
		Schema int
		At     time.Time
		Health struct {
			Schema      int
			Live, Ready bool
			Checks      []struct {
				Name, Kind string
				OK         bool
				Since      time.Time
			}
		}
		Config *struct {
			Running, Wanted int64
			RunningDigest   string `json:"running_digest"`
			Layers          []struct {
				Name     string
				Revision int64
			}
		}
		Upgrade struct {
			OrderID           string `json:"order_id"`
			State, Action     string
			From, To, Running ref
			Started           time.Time
			LastFailed        *struct {
				ref
				Reason string
			} `json:"last_failed"`
			Retained []ref
		}
		Latency  float64 `json:"heartbeat_latency_seconds"`
		Presence *struct {
			TTL     float64 `json:"ttl_seconds"`
			Granted int64   `json:"leases_granted"`
		}
	}
	if err := json.Unmarshal(data, &old); err != nil {
		t.Fatal(err)
	}
	h, u := old.Health, old.Upgrade
	if old.Schema != 1 || old.At.IsZero() || !h.Live || h.Ready || len(h.Checks) != 1 || h.Checks[0].Name != "check-1" || h.Checks[0].OK {
		t.Errorf("health: %+v", old)
	}
	if u.OrderID == "" || u.State != "committed" || u.Running.Version != "1.1.0" || u.LastFailed == nil || len(u.Retained) != 1 || u.From.Version != "1.0.0" {
		t.Errorf("upgrade: %+v", u)
	}
	if c := old.Config; c == nil || c.Running != 4711 || len(c.RunningDigest) != 64 || len(c.Layers) != 3 || old.Presence == nil || old.Presence.TTL != 30 || old.Latency == 0 {
		t.Errorf("config: %+v, presence: %+v", c, old.Presence)
	}
}

// TestTreeOfAnyDepthIsShownInBrief: one megabyte of nested nodes would otherwise
// be a hundred on a terminal.
func TestTreeOfAnyDepthIsShownInBrief(t *testing.T) {
	tree := Node{Name: "leaf", Severity: SeverityCritical}
	for range 1000 {
		tree = Node{Name: "n", Severity: SeverityCritical, Children: []Node{tree}}
	}
	if text := tree.String(); strings.Count(text, "\n") != maxTreeDepth+2 || !strings.Contains(text, "└ and 1 more") {
		t.Errorf("it is shown as\n%s", text)
	}
	if worst := tree.Worst(); len(worst) > 100 {
		t.Errorf("the worst takes %d bytes", len(worst))
	}
}
