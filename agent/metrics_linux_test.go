package agent

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/perennial-go/perennial/internal/peertest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

// samples are the values of a scrape, by series as they are written.
type samples map[string]float64

// scrape returns what /metrics shows, and its text.
func (m *member) scrape() (samples, string) {
	m.Helper()
	text, err := m.get("/metrics")
	if err != nil {
		m.Fatal(err)
	}
	all := samples{}
	for line := range strings.SplitSeq(text, "\n") {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			if all[line[:i]], err = strconv.ParseFloat(line[i+1:], 64); err != nil {
				m.Fatalf("%q: %v", line, err)
			}
		}
	}
	return all, text
}

// sum adds up the series of a metric.
func (s samples) sum(name string) (total float64) {
	for series, value := range s {
		if series == name || strings.HasPrefix(series, name+"{") {
			total += value
		}
	}
	return total
}

func (s samples) expect(tb testing.TB, want samples) {
	tb.Helper()
	for series, value := range want {
		if got, ok := s[series]; !ok || got != value {
			tb.Errorf("%s is %v (there: %v), want %v", series, got, ok, value)
		}
	}
}

func attempts(outcome string) string {
	return fmt.Sprintf("perennial_upgrade_attempts_total{outcome=%q}", outcome)
}

// TestCountersOfUpgradesGoOnInTheNextReleaseAndAfterAKill: each process begins
// with none of its own, and a counter that begins anew at 1 has not grown.
func TestCountersOfUpgradesGoOnInTheNextReleaseAndAfterAKill(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	m.registered()
	s, _ := m.scrape()
	s.expect(t, samples{
		attempts("committed"): 0, attempts("rolled_back"): 0,
		`perennial_upgrade_state{state="idle"}`: 1, `perennial_upgrade_state{state="committed"}`: 0,
		`perennial_agent_state{state="running"}`: 1, `perennial_agent_state{state="upgrading"}`: 0,
	})
	for i, version := range []string{"1.1.0", "1.2.0"} {
		m.upgrades(build{Version: version})
		<-m.done // the one that was started, or has ended already
		s, _ = m.scrape()
		n := float64(i + 1)
		s.expect(t, samples{
			attempts("committed"): n,
			`perennial_upgrade_duration_seconds_count{outcome="committed"}`:   n,
			`perennial_upgrade_swap_pause_seconds_count{outcome="committed"}`: n,
			`perennial_upgrade_state{state="committed"}`:                      1,
		})
		if s.sum("perennial_version_drift") != 0 || s.sum("perennial_upgrade_obtained_bytes_total") == 0 {
			t.Errorf("drift %v, %v bytes obtained", s.sum("perennial_version_drift"), s.sum("perennial_upgrade_obtained_bytes_total"))
		}
	}
	m.ends(m.order(build{Version: "1.3.0", Sick: true}), upgrade.RolledBack)
	rolledBack := samples{
		attempts("committed"): 2, attempts("rolled_back"): 1,
		`perennial_upgrade_swap_pause_seconds_count{outcome="rolled_back"}`: 1,
		`perennial_version_drift{class="binary"}`:                           1,
	}
	s, _ = m.scrape()
	s.expect(t, rolledBack)
	if pause := s[`perennial_upgrade_swap_pause_seconds_sum{outcome="rolled_back"}`]; pause != 0 {
		t.Errorf("a pause of %v s was counted after a successor that took connections all the time", pause)
	}
	downloaded := s.sum("perennial_upgrade_download_bytes_total")
	m.stop() // as kill -9 does
	m.launch(m.state + "/current/agent")
	m.takesOver()
	s, _ = m.scrape()
	s.expect(t, rolledBack)
	if got := s.sum("perennial_upgrade_download_bytes_total"); got != downloaded || got == 0 {
		t.Errorf("%v bytes were downloaded, %v before the kill", got, downloaded)
	}
}

// TestSwapPauseAfterASuccessorThatStoodStillIsAsLongAsItDid: a pause that is
// measured from the moment when that is noticed would always be short.
func TestSwapPauseAfterASuccessorThatStoodStillIsAsLongAsItDid(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.Failpoints = map[string]string{"1.1.0": "take-over=hang"}
	m.start()
	m.registered()
	m.ends(m.order(build{Version: "1.1.0"}), upgrade.RolledBack)
	s, _ := m.scrape()
	// The incumbent waits five seconds for a successor that was told to commit.
	if pause := s[`perennial_upgrade_swap_pause_seconds_sum{outcome="rolled_back"}`]; pause < 5 || pause > 30 {
		t.Errorf("a pause of %v s was counted, want what the successor was waited for", pause)
	}
}

// TestMetricsOfAnAgentPassTheLinters: what is there with plugins, tasks and
// requests, as Prometheus' own tool sees it.
func TestMetricsOfAnAgentPassTheLinters(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.Plugins = t.TempDir()
	m.start()
	m.registered()
	for _, path := range []string{"/", "/readyz", "/nowhere"} {
		if _, err := m.get(path); err != nil {
			t.Fatal(err)
		}
	}
	waittest.Until(t, "a heartbeat is counted", func() bool {
		s, _ := m.scrape()
		return s["perennial_heartbeat_duration_seconds_count"] > 0
	})
	s, text := m.scrape()
	if s[`perennial_request_duration_seconds_count{code="200",method="GET"}`] < 3 || s.sum("perennial_health_indicator") == 0 {
		t.Errorf("requests or indicators are missing in\n%s", text)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	promtool := peertest.Find(t, "promtool", "debian")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	check := exec.CommandContext(ctx, promtool, "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
