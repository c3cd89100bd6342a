package health_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/peertest"
)

// promtool runs it in dir and returns what it says.
func promtool(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), peertest.Find(t, "promtool", "debian"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// awkward are rules that use everything there is to generate from.
func awkward() []health.Rule {
	return []health.Rule{
		{Name: "late/by-half", Indicator: "lateness:seconds", Above: 1.5e6, Clear: -0.25, For: 90*time.Minute + 1, KeepFiring: 1500 * time.Microsecond},
		{Name: "3rd", Indicator: "third", Fold: health.Sum, Every: 45 * time.Second, Severity: health.Critical, Summary: `So "many" {{ end }} of them: 'yes' #1`},
		{Name: "slow", Indicator: "request_p95_seconds", Above: 0.5, Clear: 0.4, Expr: "histogram_quantile(0.95, sum by (le, job, instance) (rate(perennial_request_duration_seconds_bucket[1m])))"},
	}
}

// TestPrometheusTakesTheGeneratedRules: a file with one rule that it does not
// take is a Prometheus that does not start.
func TestPrometheusTakesTheGeneratedRules(t *testing.T) {
	for name, rules := range map[string][]health.Rule{"default": health.DefaultRules(), "none": {}, "awkward": awkward()} {
		text, err := health.PrometheusRules(rules)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "rules.yml"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := promtool(t, dir, "check", "rules", "--lint-fatal", "rules.yml"); err != nil {
			t.Errorf("%s: %v\n%s\n%s", name, err, out, text)
		}
		if n := strings.Count(string(text), "- alert: "); n != len(rules)+14 {
			t.Errorf("%s: want %d alerts and the 14 about agents and fleets as such, found %d", name, len(rules), n)
		}
	}
}

// TestPrometheusFiresByTheSameTableAsTheAgent runs the rules against series
// that begin, clear and end alerts.
func TestPrometheusFiresByTheSameTableAsTheAgent(t *testing.T) {
	text, err := health.PrometheusRules(append(health.DefaultRules(), awkward()...))
	if err != nil {
		t.Fatal(err)
	}
	cases, err := os.ReadFile("testdata/prometheusrules.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{"rules.yml": text, "cases.yml": cases} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := promtool(t, dir, "test", "rules", "cases.yml"); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, text)
	}
}

// TestPrometheusRulesHaveNoFractionsOfTimes: it knows none, and a time that is
// rounded down to nothing is another rule.
func TestPrometheusRulesHaveNoFractionsOfTimes(t *testing.T) {
	text, err := health.PrometheusRules(awkward())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"for: 1h30m1ms\n", "keep_firing_for: 2ms\n", "[1m30s]"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
}

func TestPrometheusRulesAreRefusedThatWouldHideEachOther(t *testing.T) {
	for name, rules := range map[string][]health.Rule{
		"two that differ in punctuation":     {{Name: "disk-full", Indicator: "a"}, {Name: "disk_full", Indicator: "b"}},
		"one named as one of those built in": {{Name: "agent_down", Indicator: "a"}},
	} {
		if text, err := health.PrometheusRules(rules); !errors.Is(err, health.ErrDuplicate) {
			t.Errorf("%s: want ErrDuplicate, got %v and %s", name, err, text)
		}
	}
	if text, err := health.PrometheusRules([]health.Rule{{Name: "no spaces", Indicator: "a"}}); !errors.Is(err, health.ErrInvalid) {
		t.Errorf("want ErrInvalid, got %v and %s", err, text)
	}
}
