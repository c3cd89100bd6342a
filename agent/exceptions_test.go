package agent

import (
	"testing"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/plugin"
)

// TestExceptionsOfAFormerHostRaiseNoAlert: each upgrade would, of an agent whose
// plugins ever had one.
func TestExceptionsOfAFormerHostRaiseNoAlert(t *testing.T) {
	m, err := health.New(health.Config{NoBuiltIn: true, Rules: []health.Rule{}})
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{health: m}
	of := func(name string, exceptions, inherited int64) plugin.Status {
		return plugin.Status{Name: name, Exceptions: exceptions, Inherited: inherited}
	}
	for _, c := range []struct {
		what string
		all  []plugin.Status
		want float64 // 0: nothing is told
	}{
		{"taken over", []plugin.Status{of("a", 3, 3)}, 0},
		{"another, whose first start fails", []plugin.Status{of("a", 3, 3), of("b", 1, 0)}, 1},
		{"taken over with a new one", []plugin.Status{of("a", 3, 3), of("b", 1, 0), of("c", 9, 7)}, 2},
		{"nothing new", []plugin.Status{of("a", 3, 3), of("b", 1, 0), of("c", 9, 7)}, 0},
		{"one goes, while another has two", []plugin.Status{of("b", 3, 0), of("c", 9, 7)}, 2},
		{"it comes back, and another began anew", []plugin.Status{of("a", 1, 0), of("b", 0, 0), of("c", 9, 7)}, 1},
		{"and fails again", []plugin.Status{of("a", 2, 0), of("b", 1, 0), of("c", 9, 7)}, 2},
	} {
		a.observePlugins(c.all)
		told := 0.0
		for _, i := range m.Report().Indicators {
			told = float64(i.Value)
		}
		if m.RemoveIndicator(health.PluginExceptions); told != c.want {
			t.Errorf("%s: %v are new, want %v", c.what, told, c.want)
		}
	}
}
