package agent

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// busyStatus is that of an agent with so many plugins and much to tell: a failed
// upgrade before, some releases to go back to, a configuration of three layers.
func busyStatus(plugins int) (Registration, Status, []PluginRecord) {
	at := time.Date(2026, 11, 26, 10, 1, 0, 123456789, time.UTC)
	digest := strings.Repeat("ab", 32)
	ref := func(version string) upgrade.Ref {
		return upgrade.Ref{Version: version, Manifest: "sha256:" + digest, Binary: digest}
	}
	reg := Registration{Schema: schema, ID: "web-00042", State: Event{Running, "serving; last upgrade committed", at}}
	s := Status{Schema: schema, At: at, Every: 60, HeartbeatLatency: 0.00123, Presence: &Presence{TTL: 30, HeartbeatEvery: 5, EtcdHeard: at, StaleSeconds: 1.5, LeasesGranted: 1, Registrations: 2}}
	s.Health = health.Report{Schema: 1, At: at, Live: true, Ready: true}
	for i := range 8 {
		s.Health.Checks = append(s.Health.Checks, health.CheckReport{Name: fmt.Sprintf("check-%d", i), Kind: health.Readiness, OK: true, Since: at, At: at, Duration: 0.001})
	}
	for i := range 14 {
		s.Health.Indicators = append(s.Health.Indicators, health.IndicatorReport{Name: fmt.Sprintf("indicator_%d", i), Value: 41.3, Unit: "percent", Basis: "cgroup v2 /sys/fs/cgroup, limit 512.0 MiB", At: at, Threshold: 85, State: health.Inactive, Since: at})
	}
	s.Config = &config.Status{Running: 4711, Wanted: 4711, RunningDigest: digest, WantedDigest: digest, RunningSince: at, WantedSince: at, Origin: "etcd", EtcdHeard: at}
	for _, name := range []string{"global", "group/web", "agent/web-00042"} {
		s.Config.Layers = append(s.Config.Layers, config.Layer{Name: "/agents/config/" + name, Revision: 4711})
	}
	failed := upgrade.Quarantined{Ref: ref("1.2.0"), Class: upgrade.BadBinary, Reason: "the successor was unhealthy: spool: no space left on device", Attempts: 1, Since: at}
	s.Upgrade = upgrade.Status{
		Attempt: upgrade.Attempt{Schema: 1, OrderID: "QX4R6N2M7HJSCWIYB3TGZL0042", By: "operator@host", Action: upgrade.ActionUpgrade, State: upgrade.Committed, From: ref("1.0.0"), To: ref("1.1.0"), AllowedBy: "newer than 1.0.0, same major version", Started: at, Updated: at},
		Program: "agentd", Running: ref("1.1.0"), LastFailed: &failed, Quarantine: []upgrade.Quarantined{failed}, Retained: []upgrade.Ref{ref("1.0.0")},
		Provenance: &upgrade.Provenance{Revision: "0123abc", Created: at, Go: "go1.26.8", SignedBy: &release.Signer{Key: "0123456789ABCDEF", Comment: "agentd 1.1.0"}, AllowedBy: "newer than 1.0.0, same major version", By: "operator@host"},
	}
	var all []PluginRecord
	for i := range plugins {
		p := PluginRecord{Schema: schema}
		p.Name, p.Version, p.State, p.Since = fmt.Sprintf("reader-%03d", i), "2.0.0", plugin.Running, at
		all = append(all, p)
	}
	return reg, s, all
}

func withTree(reg Registration, s Status, plugins []PluginRecord) Status {
	tree := treeOf(reg, s, plugins)
	s.Tree = &tree
	return s
}

// written is what a reader makes of s, which took no more than it may.
func written(tb testing.TB, s Status) (Status, int) {
	tb.Helper()
	data, err := s.value()
	if err != nil {
		tb.Fatal(err)
	}
	if len(data) > maxStatus {
		tb.Errorf("the status has %d bytes, want at most %d", len(data), maxStatus)
	}
	var read Status
	if err := decode("status", data, &read); err != nil {
		tb.Fatalf("%v in %s", err, data)
	}
	return read, len(data)
}

// TestStatusOf20PluginsFitsInto4KiBWithEachOfThem: an operator would otherwise not
// see which of them fails.
func TestStatusOf20PluginsFitsInto4KiBWithEachOfThem(t *testing.T) {
	reg, s, plugins := busyStatus(20)
	plugins[17].State, plugins[17].Reason = plugin.Quarantined, "died 5 times in 10m0s"
	read, size := written(t, withTree(reg, s, plugins))
	told := read.Tree.Child(nodePlugins)
	if told == nil || len(told.Children) != 20 || told.LeftOut != 0 || told.Children[0].Name != "reader-017" || told.Children[0].Reason != plugins[17].Reason {
		t.Fatalf("%d bytes tell %+v", size, told)
	}
	if q := read.Upgrade.Quarantine; len(q) != 1 || q[0].Version != "1.2.0" {
		t.Errorf("the quarantine is %+v, want the release that failed last", q)
	}
	if u := read.Upgrade; u.OrderID != s.Upgrade.OrderID || u.Running != s.Upgrade.Running || len(u.Retained) != 1 || u.LastFailed == nil || u.Provenance == nil {
		t.Errorf("what operators act upon is gone: %+v", u)
	}
	if c := read.Config; c.Running != 4711 || c.RunningDigest != s.Config.RunningDigest || len(c.Layers) != 3 {
		t.Errorf("config put could not follow the agent: %+v", c)
	}
	t.Logf("%d bytes; left out: %v", size, read.LeftOut)
}

// TestStatusIsBoundedWhateverIsInIt: one agent with 200 plugins, or one that
// quotes a program's output, would otherwise be felt by whoever reads the fleet.
func TestStatusIsBoundedWhateverIsInIt(t *testing.T) {
	for name, text := range map[string]string{
		"long": strings.Repeat("no space left ", 400), "control characters": strings.Repeat("\x01\x1b", 2000),
		"no UTF-8": strings.Repeat("\xff", 3000), "quotes": strings.Repeat(`"\`, 2000), "wide": strings.Repeat("𝔘", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			reg, s, plugins := busyStatus(200)
			for i := range plugins {
				plugins[i].State, plugins[i].Reason = plugin.Degraded, text
			}
			plugins[199].State, plugins[199].Required = plugin.Refused, true
			for i := range s.Health.Checks {
				s.Health.Checks[i].OK, s.Health.Checks[i].Error = i%2 == 0, text
			}
			for i := range s.Health.Indicators {
				n := &s.Health.Indicators[i]
				n.State, n.Basis, n.Error = health.Firing, text, text
				s.Health.Alerts = append(s.Health.Alerts, health.Alert{Name: n.Name, Indicator: n.Name, Value: 99, Threshold: 85, Since: n.At})
			}
			s.Config.Error, s.Config.LastFailed = text, &config.Failure{Key: text, Reason: text}
			for i := range 10 {
				q := *s.Upgrade.LastFailed
				q.Version, q.Reason = fmt.Sprintf("1.3.%d", i), text
				s.Upgrade.Quarantine = append(s.Upgrade.Quarantine, q)
			}
			for range 50 {
				s.Upgrade.Log = append(s.Upgrade.Log, text)
			}
			s.Upgrade.Reason, s.OrderError, s.RolloutError, s.Presence.HeartbeatError = text, text, text, text
			s.Rollout = &rollout.Report{Request: strings.Repeat("r", 64) + ".2", State: rollout.ReportFailed, Class: "binary", Reason: text, At: s.At}
			before := encoded(t, withTree(reg, s, plugins))
			read, size := written(t, withTree(reg, s, plugins))
			if encoded(t, withTree(reg, s, plugins)) != before {
				t.Error("what was to be written was changed by writing it")
			}
			if read.Tree == nil {
				t.Fatalf("%d bytes without a tree: %s", size, encoded(t, read))
			}
			told := read.Tree.Child(nodePlugins)
			if told == nil || len(told.Children) == 0 || told.Children[0].Name != "reader-199" || told.Children[0].Severity != SeverityCritical {
				t.Fatalf("the worst plugin is not told in %d bytes: %+v", size, read.Tree)
			}
			if n := len(told.Children) + told.LeftOut; n != 200 {
				t.Errorf("%d plugins are told or counted, want 200", n)
			}
			if read.LeftOut["log"] == 0 || read.LeftOut["quarantine"] == 0 || read.LeftOut["text"] == 0 {
				t.Errorf("what was left out is not counted: %v", read.LeftOut)
			}
			if read.Upgrade.OrderID != s.Upgrade.OrderID {
				t.Error("nobody can follow the order")
			}
			if r := read.Rollout; r == nil || r.Request != s.Rollout.Request || r.State != s.Rollout.State || r.Class != s.Rollout.Class {
				t.Errorf("whoever counts the agents of a rollout finds %+v", r)
			}
		})
	}
}

// TestStatusTellsAsMuchOfALogAsThereIsRoomFor: it says most of why a release failed.
func TestStatusTellsAsMuchOfALogAsThereIsRoomFor(t *testing.T) {
	reg, s, plugins := busyStatus(3)
	for i := range 50 {
		s.Upgrade.Log = append(s.Upgrade.Log, fmt.Sprintf("line %02d: no space left on device", i))
	}
	read, size := written(t, withTree(reg, s, plugins))
	n := len(read.Upgrade.Log)
	if n < 20 || n+read.LeftOut["log"] != 50 || read.Upgrade.Log[n-1] != s.Upgrade.Log[49] || size < maxStatus-60 {
		t.Errorf("%d bytes tell %d lines, left out %v", size, n, read.LeftOut)
	}
	s.Upgrade.Log = s.Upgrade.Log[40:]
	if read, _ := written(t, withTree(reg, s, plugins)); len(read.Upgrade.Log) != 10 || read.LeftOut["log"] != 0 {
		t.Errorf("of 10 lines %d are told, left out %v", len(read.Upgrade.Log), read.LeftOut)
	}
}

// fill sets everything in v: each text to text, each list to n of what it holds.
func fill(v reflect.Value, text string, n int) {
	switch v.Kind() { //nolint:exhaustive // a status has no others
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1 << 30)
	case reflect.Float64:
		v.SetFloat(1e9)
	case reflect.Pointer:
		if v.Type() != reflect.TypeFor[*Node]() { // which is made of the rest
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), text, n)
		}
	case reflect.Slice:
		for range n {
			one := reflect.New(v.Type().Elem()).Elem()
			fill(one, text, n)
			v.Set(reflect.Append(v, one))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 11, 26, 10, 1, 0, 123456789, time.UTC)))
			return
		}
		for _, field := range v.Fields() {
			if field.CanSet() {
				fill(field, text, n)
			}
		}
	}
}

// digested gives v, which was filled, digests of the length that real ones have.
func digested(v reflect.Value) {
	switch v.Kind() { //nolint:exhaustive // the rest holds none
	case reflect.Pointer:
		if !v.IsNil() {
			digested(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			digested(v.Index(i))
		}
	case reflect.Struct:
		for field, value := range v.Fields() {
			switch name := field.Name; {
			case name == "Manifest":
				value.SetString("sha256:" + strings.Repeat("a", 64))
			case name == "Binary", strings.HasSuffix(name, "Digest"):
				value.SetString(strings.Repeat("a", 64))
			case field.IsExported():
				digested(value)
			}
		}
	}
}

// TestEveryFieldOfAStatusIsBounded: one that is added and forgotten would
// otherwise cost the agent all the rest of its status.
func TestEveryFieldOfAStatusIsBounded(t *testing.T) {
	for _, text := range []string{strings.Repeat("x", 20), strings.Repeat("x", 60), strings.Repeat("x", nameLimit), strings.Repeat("x", 10_000), strings.Repeat("\x01", 10_000)} {
		var s Status
		fill(reflect.ValueOf(&s).Elem(), text, 9)
		digested(reflect.ValueOf(&s))
		s.Schema, s.LeftOut = schema, nil
		var plugins []PluginRecord
		for range 20 {
			var p PluginRecord
			fill(reflect.ValueOf(&p).Elem(), text, 2)
			plugins = append(plugins, p)
		}
		if read, _ := written(t, withTree(Registration{ID: "a1"}, s, plugins)); read.LeftOut["all"] != 0 || read.Tree == nil {
			t.Errorf("with every text of %d bytes nothing is told any more: %v", len(text), read.LeftOut)
		}
	}
}

// FuzzStatusValue writes what was read, and worse.
func FuzzStatusValue(f *testing.F) {
	for _, name := range statusGoldens() {
		f.Add(golden(f, name), uint64(1), 10)
	}
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, n int) {
		var s Status
		if decode("status", data, &s) != nil {
			return
		}
		r := rand.New(rand.NewPCG(seed, 1))
		text := make([]byte, r.IntN(2000))
		for i := range text {
			text[i] = byte(r.Uint32())
		}
		for range min(max(n, 0), 300) {
			s.Upgrade.Log = append(s.Upgrade.Log, string(text))
			s.Health.Checks = append(s.Health.Checks, health.CheckReport{Name: "c", Error: string(text)})
			s.Upgrade.Earlier = append(s.Upgrade.Earlier, string(text[:min(len(text), 26)]))
		}
		reg, _, plugins := busyStatus(min(max(n, 0), 300))
		read, _ := written(t, withTree(reg, s, plugins))
		again, err := json.Marshal(read)
		if err != nil || decode("status", again, &s) != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

func failure9() *config.Failure {
	return &config.Failure{Revision: 9, Digest: "other", Key: "/agents/config/global", Reason: "unknown field"}
}

// TestWhyARolloutFailedIsToldWholeInAFullStatus: the rollout's history has it from here
// alone. What was wrong before the change is told of what is wrong still.
func TestWhyARolloutFailedIsToldWholeInAFullStatus(t *testing.T) {
	reg, s, plugins := busyStatus(20)
	why := `configuration /agents/config/group/web: line 1, column 12: server.port: want a number between 1 and 65535, found "none"; line 2, column 1: unknown field sever: no such setting here; check the spelling, or remove it`
	s.Rollout = &rollout.Report{Request: "r1.1", State: rollout.ReportFailed, Class: "binary", Reason: why, At: s.At, Before: []string{"disk", "check-1", "cpu"}}
	s.Config.LastFailed = &config.Failure{Key: "/agents/config/group/web", Reason: why}
	s.Config.Error = why
	s.Health.Checks[1].OK, s.Health.Checks[1].Error = false, why
	for _, name := range []string{"disk", "memory"} {
		s.Health.Alerts = append(s.Health.Alerts, health.Alert{Name: name, Indicator: name, Severity: health.Critical, Since: s.At, FiredAt: s.At})
	}
	for i := range 50 {
		s.Upgrade.Log = append(s.Upgrade.Log, fmt.Sprintf("line %02d: %s", i, why))
	}
	read, size := written(t, withTree(reg, s, plugins))
	if got := read.Rollout; got.Reason != why || strings.Join(got.Before, " ") != "disk check-1" {
		t.Errorf("%d bytes tell %+v; left out %v", size, got, read.LeftOut)
	}
}
