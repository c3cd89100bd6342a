package deploy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/peertest"
)

const (
	ruleFile      = "prometheus.rules.yml"
	scrapeFile    = "prometheus.yml"
	dashboardFile = "grafana-dashboard.json"
)

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), peertest.Find(t, "promtool", "debian"), args...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

func TestRulesHereAreThoseByWhichAgentsRaiseAlerts(t *testing.T) {
	want, err := health.PrometheusRules(health.DefaultRules())
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, ruleFile); got != string(want) {
		t.Errorf("%s is not what agentd health rules prints: write it anew with that", ruleFile)
	}
}

// TestPrometheusTakesTheConfigurationHere checks the rules with it, which it
// names.
func TestPrometheusTakesTheConfigurationHere(t *testing.T) {
	read(t, scrapeFile)
	read(t, ruleFile)
	promtool(t, "check", "config", scrapeFile)
	if text := read(t, scrapeFile); !strings.Contains(text, "job_name: "+health.PrometheusJob+"\n") {
		t.Errorf("%s does not scrape as the job %s, by which the rules go", scrapeFile, health.PrometheusJob)
	}
}

// dashboard is what of a Grafana dashboard is checked here.
type dashboard struct {
	UID, Title string
	Templating struct {
		List []struct{ Name, Definition string }
	}
	Annotations struct{ List []struct{ Expr string } }
	Panels      []struct {
		ID          int
		Type, Title string
		GridPos     struct{ H, W, X, Y int }
		Targets     []struct{ RefID, Expr, LegendFormat string }
		Datasource  *struct{ UID string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// expressions are all of the dashboard's, by where they are, as Grafana asks
// them of Prometheus.
func (d dashboard) expressions() map[string]string {
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".+", "$job", health.PrometheusJob)
	all := map[string]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all[fmt.Sprintf("panel %d (%s) %s", p.ID, p.Title, target.RefID)] = variables.Replace(target.Expr)
		}
	}
	for i, a := range d.Annotations.List {
		all[fmt.Sprintf("annotation %d", i)] = variables.Replace(a.Expr)
	}
	return all
}

func TestDashboardAsksPrometheusWhatItUnderstands(t *testing.T) {
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for where, expr := range readDashboard(t).expressions() {
		if strings.Contains(expr, "$") {
			t.Errorf("%s has a variable that is not known: %s", where, expr)
		}
		rules = append(rules, rule{fmt.Sprintf("checked:%d", len(rules)), expr})
	}
	if len(rules) < 40 {
		t.Fatalf("want the expressions of the whole dashboard, found %d", len(rules))
	}
	// JSON is YAML.
	file, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}

// TestDashboardShowsOnlyWhatAgentsExpose: a metric that was renamed is an empty
// panel.
func TestDashboardShowsOnlyWhatAgentsExpose(t *testing.T) {
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(perennial_[a-z_]+)` \\| (\\w+)").FindAllStringSubmatch(read(t, "../../docs/observability.md"), -1) {
		listed[m[1]] = true
		if m[2] == "histogram" {
			listed[m[1]+"_bucket"], listed[m[1]+"_sum"], listed[m[1]+"_count"] = true, true, true
		}
	}
	if len(listed) < 40 {
		t.Fatalf("docs/observability.md lists %d metrics only", len(listed))
	}
	texts := readDashboard(t).expressions()
	texts[ruleFile] = read(t, ruleFile)
	for _, v := range readDashboard(t).Templating.List {
		texts["variable "+v.Name] = v.Definition
	}
	for where, text := range texts {
		for _, metric := range regexp.MustCompile(`\bperennial_[a-z_]+`).FindAllString(text, -1) {
			if !listed[metric] {
				t.Errorf("%s: docs/observability.md lists no metric %s", where, metric)
			}
		}
	}
}

func TestDashboardsPanelsDoNotCoverEachOther(t *testing.T) {
	taken := map[[2]int]int{}
	var ids []int
	d := readDashboard(t)
	for _, p := range d.Panels {
		if slices.Contains(ids, p.ID) {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids = append(ids, p.ID)
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource == nil || p.Datasource.UID != "${datasource}") {
			t.Errorf("panel %d (%s) asks nothing, or not the data source that is chosen", p.ID, p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, covered := taken[[2]int{x, y}]; covered || x >= 24 {
					t.Fatalf("panel %d (%s) covers panel %d, or goes over the edge", p.ID, p.Title, other)
				}
				taken[[2]int{x, y}] = p.ID
			}
		}
	}
}
