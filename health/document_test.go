package health

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestDocumentationListsEveryIndicatorAndAlert: whoever is woken by an alert
// looks for it there.
func TestDocumentationListsEveryIndicatorAndAlert(t *testing.T) {
	doc, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	want := "| indicator | unit | every | what it is |\n|---|---|---|---|\n"
	for _, i := range new(Monitor).builtIn("/") {
		want += fmt.Sprintf("| `%s` | %s | %v | %s |\n", i.Name, cmp.Or(i.Unit, "none"), cmp.Or(i.Every, defaultEvery), i.Help)
	}
	alerts := "| alert | indicator | fires | severity |\n|---|---|---|---|\n"
	for _, r := range DefaultRules() {
		r, err := r.normalised(0)
		if err != nil {
			t.Fatal(err)
		}
		fires := fmt.Sprintf("above %v", r.Above)
		if r.For > 0 {
			fires += fmt.Sprintf(" for %v", r.For)
		}
		fires += fmt.Sprintf(", until at most %v", r.Clear)
		if r.KeepFiring > 0 {
			fires += fmt.Sprintf(" for %v", r.KeepFiring)
		}
		alerts += fmt.Sprintf("| `%s` | `%s` | %s | %s |\n", r.Name, r.Indicator, fires, r.Severity)
	}
	for _, table := range []string{want, alerts} {
		if !strings.Contains(string(doc), table) {
			t.Errorf("docs/observability.md has another table; want\n%s", table)
		}
	}
}
