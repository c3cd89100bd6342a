package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/internal/porttest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// fleetSize is how many real agents there are: one half with env=test, the other
// with env=production.
const fleetSize = 20

// fleet is agents that share etcd, repository and keys.
type fleet struct {
	*site  // of the first
	agents []*member
}

type member struct {
	*site
	id   string
	load *load
}

// newFleet starts agents. The environment of those that faulty names says that a
// release is bad for them.
func newFleet(t *testing.T, n int, faulty func(id string) bool) *fleet {
	t.Helper()
	f := &fleet{site: newSite(t)}
	for i := range n {
		one := *f.site
		m := &member{site: &one, id: fmt.Sprintf("a%02d", i)}
		one.state = filepath.Join(f.dir, m.id)
		if faulty(m.id) {
			one.wrap = []string{"env", "AGENTD_TEST_FAULT=yes"}
		}
		f.agents = append(f.agents, m)
	}
	return f
}

// isTest tells which half an agent is of.
func (f *fleet) isTest(i int) bool { return i < len(f.agents)/2 }

// address gives all agents addresses of their own, right before they start: what
// is free does not stay so while releases are built.
func (f *fleet) address() {
	for _, m := range f.agents {
		m.listen, m.admin = porttest.Address(f.t), porttest.Address(f.t)
	}
}

// start launches all agents; the first two stand for election.
func (f *fleet) start() {
	f.t.Helper()
	f.address()
	for i, m := range f.agents {
		env := "env=production"
		if f.isTest(i) {
			env = "env=test"
		}
		args := []string{"--id", m.id, "--label", env, "--heartbeat", "1s", "--ttl", "10s", "--listen", m.listen, "--admin", m.admin, "--state-dir", m.state}
		if i < 2 {
			args = append(args, "--rollout-controller=true", "--log-level", "info")
		}
		m.launch(args...)
	}
	for _, m := range f.agents {
		waittest.Until(f.t, m.id+" is ready", func() bool { return status(m.url(m.admin, "/readyz")) == http.StatusOK })
	}
}

// run is agentd rollout.
func (f *fleet) rollout(args ...string) result {
	f.t.Helper()
	return agentd(f.t, append([]string{"rollout", args[0], "--etcd", f.etcd.URL()}, args[1:]...)...)
}

// begin starts a rollout by the default stages and follows it to its end.
func (f *fleet) begin(id, version string) result {
	f.t.Helper()
	return f.rollout("start", "--repo", f.repo, "--trust", f.trust, "--canary", "--soak", "1s", "--deadline", "60s",
		"--rollout-id", id, "--by", "test", "--reason", "a release a week", "--environment", "test,production", "--wait", "80s", version)
}

// versions counts the agents by what they say they run.
func (f *fleet) versions() map[string]int {
	all := map[string]int{}
	for _, m := range f.agents {
		i, err := m.info()
		if err != nil {
			i.Version = err.Error()
		}
		all[i.Version]++
	}
	return all
}

// runsEverywhere checks processes, slots and registry.
func (f *fleet) runsEverywhere(version string) {
	f.t.Helper()
	if got := f.versions(); got[version] != len(f.agents) {
		f.t.Errorf("the agents run %v, want %s everywhere", got, version)
	}
	for _, m := range f.agents {
		if slot := m.current(); !strings.HasPrefix(filepath.Base(slot), version+"-") {
			f.t.Errorf("%s boots %s, want %s", m.id, slot, version)
		}
	}
	directory, err := agent.OpenDirectory(agent.EtcdConfig{Endpoints: []string{f.etcd.URL()}})
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = directory.Close() }()
	waittest.Nil(f.t, "the registry says what runs", func() error {
		for _, m := range f.agents {
			e, err := directory.Get(f.t.Context(), m.id)
			if err != nil || e.Version != version || e.Status == nil || e.Status.Upgrade.Running.Version != version {
				return fmt.Errorf("%s: %w, registered as %s", m.id, err, e.Version)
			}
		}
		return nil
	})
}

// books returns the history and the status of the newest rollout, as commands
// print them.
func (f *fleet) books() (rollout.Past, rolloutStatus) {
	f.t.Helper()
	past, now, err := f.opened()
	if err != nil {
		f.t.Fatal(err)
	}
	return past, now
}

// opened is books; there are none before a controller has written them.
func (f *fleet) opened() (rollout.Past, rolloutStatus, error) {
	f.t.Helper()
	var past []rollout.Past
	var now rolloutStatus
	err := json.Unmarshal([]byte(f.rollout("history", "--limit", "1", "-o", "json").ok(f.t).stdout), &past)
	if err == nil {
		err = json.Unmarshal([]byte(f.rollout("status", "-o", "json").ok(f.t).stdout), &now)
	}
	if err != nil || len(past) != 1 || past[0].Broken != "" || now.Plan == nil || now.Books == nil {
		return rollout.Past{}, now, fmt.Errorf("history %+v, status %+v: %w", past, now, err)
	}
	return past[0], now, nil
}

// idWith finds an id for a rollout whose first production agents are a mix of
// those that the release is bad for and others.
func (f *fleet) idWith(faulty func(id string) bool) string {
	for n := range 1000 {
		id := fmt.Sprintf("bad-%d", n)
		var production []string
		for i, m := range f.agents {
			if !f.isTest(i) {
				production = append(production, m.id)
			}
		}
		slices.SortFunc(production, func(a, b string) int {
			if rollout.RankOf(id, a) < rollout.RankOf(id, b) {
				return -1
			}
			return 1
		})
		bad := 0
		for _, p := range production[:3] {
			if faulty(p) {
				bad++
			}
		}
		if bad == 1 {
			return id
		}
	}
	f.t.Fatal("no id has it")
	return ""
}

// buildFaulty makes a release that is bad for some hosts only.
func buildFaulty(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agentd")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-race=false", "-tags", "fault_told", "-ldflags", "-s -w -X main.version="+version, "-o", path, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return path
}

// Twenty real agents under load: a good release goes through all stages; the next
// one is bad for some hosts, which shows in the second stage, and the whole fleet
// is back by itself.
func TestFleetUnderLoadTakesAGoodReleaseAndComesBackFromABadOneWithoutAFailedRequest(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts twenty agents")
	}
	faulty := func(id string) bool { return id >= "a10" && (id[2]-'0')%3 == 0 }
	f := newFleet(t, fleetSize, faulty)
	f.release("1.0.0", "1.1.0")
	agentd(t, "release", "build", "--plain", "--key", f.key, "--repo", f.repo, "--version", "1.4.0", buildFaulty(t, "1.4.0")).ok(t)
	f.start()
	for _, m := range f.agents {
		m.load = startClients(t, m.site, 2, 40*time.Millisecond)
		m.load.await(4)
	}

	began := time.Now()
	if r := f.begin("good", "1.1.0"); r.code != 0 {
		t.Fatalf("the good release ended with exit code %d:\n%s%s", r.code, r.stdout, r.stderr)
	}
	good := time.Since(began)
	f.runsEverywhere("1.1.0")
	past, now := f.books()
	if figures := now.Books.Figures; now.Plan.State != rollout.Completed || figures.Succeeded != fleetSize || figures.Failed+figures.Silent+figures.Gone != 0 {
		t.Errorf("the good release is %s with %+v", now.Plan.State, figures)
	}
	events(t, past, rollout.EventStarted, rollout.EventStage, rollout.EventStage, rollout.EventCompleted)
	f.shows(rollout.Completed, fleetSize)
	if n := f.attempts(); n["committed"] != fleetSize || n["rolled_back"]+n["failed"]+n["abandoned"] != 0 {
		t.Errorf("after the good release all agents count %v, want %d attempts, all committed", n, fleetSize)
	}
	f.isAsPinned("1.1.0")

	began = time.Now()
	if r := f.begin(f.idWith(faulty), "1.4.0"); r.code != exitReverted {
		t.Errorf("the bad release ended with exit code %d, want %d:\n%s%s", r.code, exitReverted, r.stdout, r.stderr)
	}
	bad := time.Since(began)
	f.runsEverywhere("1.1.0")
	past, now = f.books()
	if now.Plan.State != rollout.Reverted || now.Plan.Stage != 1 {
		t.Errorf("the bad release is %s in stage %d, want it reverted in the second", now.Plan.State, now.Plan.Stage)
	}
	events(t, past, rollout.EventStarted, rollout.EventStage, rollout.EventReverting, rollout.EventReverted)
	f.quarantined(faulty, "1.4.0")
	back := now.Books.Figures.Succeeded // who had begun and is back, the one that it failed on among them
	f.shows(rollout.Reverted, back)
	// There and back are two attempts; one that was under way still rolls back.
	n := f.attempts()
	if moved := n["committed"] - fleetSize; moved <= 0 || moved%2 != 0 || moved/2+n["rolled_back"] != back || n["rolled_back"] < 1 || n["failed"] != 0 {
		t.Errorf("after the bad release, from which %d are back, all agents count %v", back, n)
	}
	f.isAsPinned("1.1.0")

	for _, m := range f.agents {
		m.load.stop()
	}
	t.Logf("the good release took %v, the bad one and back %v", good.Round(time.Millisecond), bad.Round(time.Millisecond))
}

// shows waits until the metrics of the controller that is elected, which is one
// of two, say how the rollout ended and how many agents have done what it wanted
// of them last.
func (f *fleet) shows(state rollout.State, succeeded int) {
	f.t.Helper()
	want := []string{
		fmt.Sprintf(`perennial_rollout_state{fleet="default",state=%q} 1`, state),
		fmt.Sprintf(`perennial_rollout_agents{fleet="default",outcome="succeeded"} %d`, succeeded),
		`perennial_rollout_agents{fleet="default",outcome="failed"} 0`,
		`perennial_rollout_agents{fleet="default",outcome="under_way"} 0`,
		`perennial_rollout_unavailable_agents{fleet="default"} 0`,
		fmt.Sprintf(`perennial_fleet_drift{environment="production",fleet="default",status="ok"} %d`, fleetSize/2),
		fmt.Sprintf(`perennial_fleet_drift{environment="test",fleet="default",status="ok"} %d`, fleetSize/2),
	}
	waittest.Nil(f.t, "the controller's metrics are right", func() error {
		var elected int
		for _, m := range f.agents[:2] {
			text, err := get(m.url(m.admin, "/metrics"))
			if err != nil {
				return err
			}
			if !strings.Contains(string(text), `perennial_rollout_controller{fleet="default"} 1`) {
				continue
			}
			elected++
			for _, w := range want {
				if !strings.Contains(string(text), w+"\n") {
					return fmt.Errorf("%s has not %s:\n%s", m.id, w, only(string(text), "perennial_rollout_", "perennial_fleet_"))
				}
			}
		}
		if elected != 1 {
			return fmt.Errorf("%d of two controllers are elected", elected)
		}
		return nil
	})
}

// only leaves the lines of a page that begin with one of those.
func only(text string, prefixes ...string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, p) }) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// attempts are those that all agents count, by outcome.
func (f *fleet) attempts() map[string]int {
	f.t.Helper()
	const name = "perennial_upgrade_attempts_total{outcome="
	found := map[string]int{}
	for _, m := range f.agents {
		text, err := get(m.url(m.admin, "/metrics"))
		if err != nil {
			f.t.Fatal(err)
		}
		for line := range strings.Lines(only(string(text), name)) {
			var outcome string
			var n int
			if _, err := fmt.Sscanf(strings.TrimPrefix(line, name), "%q} %d", &outcome, &n); err != nil {
				f.t.Fatalf("%v in %s", err, line)
			}
			found[outcome] += n
		}
	}
	return found
}

// isAsPinned checks that agentd drift finds both environments at version.
func (f *fleet) isAsPinned(version string) {
	f.t.Helper()
	r := f.drift("-o", "json").ok(f.t)
	var found rollout.Drift
	if err := json.Unmarshal([]byte(r.stdout), &found); err != nil {
		f.t.Fatalf("%v in %s", err, r.stdout)
	}
	if len(found.Environments) != 2 || len(found.Agents) != len(f.agents) {
		f.t.Errorf("drift is of %d environments with %d agents:\n%s", len(found.Environments), len(found.Agents), r.stdout)
	}
	for _, e := range found.Environments {
		if e.Status != rollout.DriftNone || !strings.HasPrefix(e.Expected, version+"@") || len(e.Actual) != 1 {
			f.t.Errorf("%s is %s: expected %s, runs %v; want %s", e.Environment, e.Status, e.Expected, e.Actual, version)
		}
	}
}

// events checks that a history has those events in that order, among others.
func events(t *testing.T, past rollout.Past, want ...rollout.Event) {
	t.Helper()
	var found []rollout.Event
	for _, r := range past.Records {
		found = append(found, r.Event)
		if len(want) > 0 && r.Event == want[0] {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		t.Errorf("history of %s has %v, and lacks %v", past.Rollout, found, want)
	}
}

// quarantined checks that hosts refuse a release from now on if it failed there,
// and no others.
func (f *fleet) quarantined(faulty func(string) bool, version string) {
	f.t.Helper()
	failed := 0
	for _, m := range f.agents {
		data, err := os.ReadFile(filepath.Join(m.state, "quarantine.json"))
		if err != nil && !os.IsNotExist(err) {
			f.t.Fatal(err)
		}
		if !strings.Contains(string(data), `"`+version+`"`) {
			continue
		}
		if failed++; !faulty(m.id) {
			f.t.Errorf("%s has quarantined %s, which worked there: %s", m.id, version, data)
		}
	}
	if failed != 1 {
		f.t.Errorf("%s is in the quarantine of %d hosts, want that of the one it failed on", version, failed)
	}
}
