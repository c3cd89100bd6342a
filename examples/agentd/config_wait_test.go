package main

import (
	"testing"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/config"
)

// TestAnAgentThatTriesAgainHasNotRefused, one that lost etcd does not run what
// is newer, and a deletion is done when the layer is gone.
func TestAnAgentThatTriesAgainHasNotRefused(t *testing.T) {
	const key = "/agents/config/group/web"
	layers := func(revision int64) []config.Layer {
		return []config.Layer{{Name: "/etc/agentd.yaml"}, {Name: "/agents/config/global", Revision: 30}, {Name: key, Revision: revision}}
	}
	refusing := func(subscriber string, attempts int) *config.Status {
		return &config.Status{
			Running: 30, Wanted: 31, RunningDigest: "a", WantedDigest: "b", Layers: layers(9),
			LastFailed: &config.Failure{Revision: 31, Digest: "b", Key: key, Reason: "no", Subscriber: subscriber, Attempts: attempts},
		}
	}
	healed := refusing("", 1)
	healed.WantedDigest = healed.RunningDigest
	put, gone := awaited{scope: "group/web", revision: 31, latest: 33}, awaited{scope: "group/web", revision: 31, latest: 33, deleted: true}
	for name, c := range map[string]struct {
		awaited
		status *config.Status
		want   string
	}{
		"runs it":                    {put, &config.Status{Running: 31, RunningDigest: "b", Layers: layers(31)}, "1 of 1 agents run it"},
		"runs a later one":           {put, &config.Status{Running: 33, RunningDigest: "b", Layers: layers(33)}, "1 of 1 agents run it"},
		"runs a newer global":        {put, &config.Status{Running: 32, RunningDigest: "b", Layers: layers(9)}, "0 of 1 agents run it"},
		"runs what a lost etcd had":  {put, &config.Status{Running: 99, RunningDigest: "b", Layers: layers(99)}, "0 of 1 agents run it"},
		"an older release":           {put, &config.Status{Running: 31}, "1 of 1 agents run it"},
		"refuses the document":       {put, refusing("", 1), "0 of 1 agents run it, refused by 1"},
		"a subscriber tries again":   {put, refusing("listener", 4), "0 of 1 agents run it, 1 try again"},
		"a subscriber has given up":  {put, refusing("listener", 5), "0 of 1 agents run it, refused by 1"},
		"refused it, and is told no": {put, healed, "0 of 1 agents run it"},
		"not deleted yet":            {gone, &config.Status{Running: 30, RunningDigest: "b", Layers: layers(9)}, "0 of 1 agents run it"},
		"deleted":                    {gone, &config.Status{Running: 30, RunningDigest: "b", Layers: layers(9)[:2]}, "1 of 1 agents run it"},
		"deleted and published anew": {gone, &config.Status{Running: 33, RunningDigest: "b", Layers: layers(33)}, "1 of 1 agents run it"},
		"refuses what is left":       {gone, refusing("", 1), "0 of 1 agents run it, 1 try again"},
		"has not said":               {put, nil, "0 of 1 agents run it"},
	} {
		a := configAgent{id: "a1", version: "1.0.0"}
		if c.status != nil {
			a.status = &agent.Status{Config: c.status}
		}
		o := outcomeOf([]configAgent{a}, c.awaited)
		if o.String() != c.want {
			t.Errorf("%s: %q, want %q", name, o, c.want)
		}
		if settled := o.Running+len(o.Refused) == 1; settled != (len(o.waiting) == 0) {
			t.Errorf("%s: %+v", name, o)
		}
	}
}
