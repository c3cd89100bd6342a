package health_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/health"
)

// documented are the rows of the table below a heading of
// docs/observability.md.
func documented(t *testing.T, heading string) []string {
	t.Helper()
	text, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n### "+heading+"\n")
	if !found {
		t.Fatalf("docs/observability.md has no heading %s", heading)
	}
	section, _, _ = strings.Cut(section, "\n#")
	var rows []string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| `") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	return rows
}

// TestDocumentListsEveryDefaultAlert with what it fires at: operators read it
// there.
func TestDocumentListsEveryDefaultAlert(t *testing.T) {
	var want []string
	for _, r := range health.DefaultRules() {
		fires := fmt.Sprintf("above %g", r.Above)
		if r.For > 0 {
			fires += fmt.Sprintf(" for %v", r.For)
		}
		fires += fmt.Sprintf(", until at most %g", cmp.Or(r.Clear, r.Above))
		if r.KeepFiring > 0 {
			fires += fmt.Sprintf(" for %v", r.KeepFiring)
		}
		want = append(want, fmt.Sprintf("| `%s` | `%s` | %s | %s |", r.Name, r.Indicator, fires, cmp.Or(r.Severity, health.Warning)))
	}
	if got := documented(t, "Default alerts"); !slices.Equal(got, want) {
		t.Errorf("docs/observability.md lists other alerts; want\n%s\nfound\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}

// TestDocumentListsEveryIndicatorOfAnAgent: those that a Monitor declares by
// itself.
func TestDocumentListsEveryIndicatorOfAnAgent(t *testing.T) {
	monitor, err := health.New(health.Config{DiskPath: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, i := range monitor.Report().Indicators {
		if !slices.Contains(want, i.Name) {
			want = append(want, i.Name)
		}
	}
	for _, row := range documented(t, "Indicators") {
		got = append(got, strings.Split(row, "`")[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("docs/observability.md lists other indicators; want\n%s\nfound\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}
