package agent

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/agent/fingerprint"
	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade"
)

func TestSelectorKnowsEachFieldOfAnAgent(t *testing.T) {
	e := &Entry{
		Registration: Registration{
			ID: "web-1", Version: "1.2.3", Platform: "linux/amd64", Host: "h1", Fleet: "shop", Groups: []string{"web", "eu"},
			Labels: map[string]string{"env": "test"}, State: Event{State: Running},
			Fingerprint: &fingerprint.Fingerprint{
				Kernel: "6.1.0", OS: "debian 12", Libc: "glibc 2.36", Container: "docker", Image: "app:1", Orchestrator: "nomad",
				Runtimes: []fingerprint.Runtime{{Name: "docker", Version: "24.0.5"}},
			},
		},
		Status: &Status{
			Health: health.Report{Live: true, Alerts: []health.Alert{{Name: "memory"}}},
			Config: &config.Status{Running: 7},
			Upgrade: upgrade.Status{
				Attempt: upgrade.Attempt{State: upgrade.Failed},
				Hold:    &upgrade.Hold{By: "ops"},
			},
		},
		Plugins: []PluginRecord{{Status: plugin.Status{Name: "logtail"}}},
	}
	bare := &Entry{Registration: Registration{ID: "bare"}}
	for text, want := range map[string]struct{ full, bare bool }{
		"":                     {true, true},
		"env=test":             {true, false},
		".alert=memory":        {true, false},
		".config=7":            {true, false},
		".config=r7":           {true, false},
		".config!=7":           {false, true},
		".fleet=shop":          {true, false},
		".fleet!=shop":         {false, true},
		".group=eu":            {true, false},
		".health=not-ready":    {true, false},
		".health=unknown":      {false, true},
		".hold":                {true, false},
		".hold=ops":            {true, false},
		".host=h*":             {true, false},
		".id in (bare,db-*)":   {false, true},
		".platform=linux/*":    {true, false},
		".plugin=logtail":      {true, false},
		".state=running":       {true, false},
		".upgrade=failed":      {true, false},
		".version>=1.2,!.hold": {false, false},
		".version>=1.2":        {true, false},
	} {
		s, err := ParseSelector(text)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if full, none := s.Matches(e), s.Matches(bare); full != want.full || none != want.bare {
			t.Errorf("%q matches: %t and %t, want %+v", text, full, none, want)
		}
	}
	for name := range selectorFields() {
		if _, err := ParseSelector("." + name); err != nil || (selected{e}).Field(name) == nil {
			t.Errorf("field .%s of an agent with everything: %q, %v", name, selected{e}.Field(name), err)
		}
	}
}

// Tasks and plans keep selectors in etcd.
func TestSelectorSurvivesJSON(t *testing.T) {
	type plan struct {
		Where Selector `json:"where,omitzero"`
	}
	s, err := ParseSelector(`env = test, note in ("a, b", c),.version>=1.2`)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(plan{s})
	if want := `{"where":"env=test,note in (\"a, b\",c),.version\u003e=1.2"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
	var read plan
	if err := json.Unmarshal(text, &read); err != nil || read.Where.String() != s.String() {
		t.Errorf("%s, %v", read.Where, err)
	}
	if text, err := json.Marshal(plan{}); err != nil || string(text) != "{}" {
		t.Errorf("a selector of all agents is %s, %v", text, err)
	}
	// A field of a later release must not be taken for nothing.
	if err := json.Unmarshal([]byte(`{"where":".later=1"}`), &read); err == nil || !strings.Contains(err.Error(), "column 1") || read.Where.String() != s.String() {
		t.Errorf("an unknown field: %v, %s", err, read.Where)
	}
}
