package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// where returns how many of the tasks each agent ran.
func (r *rig) where(ids []string) map[string]int {
	r.Helper()
	at := map[string]int{}
	for _, id := range ids {
		at[r.becomes(id, dispatch.Succeeded).Agent]++
	}
	return at
}

func (r *rig) submitAll(n int, t dispatch.Task) []string {
	r.Helper()
	var ids []string
	for range n {
		ids = append(ids, r.submit(t))
	}
	return ids
}

func TestRoundRobinGivesEachAgentItsTurn(t *testing.T) {
	r := newRig(t)
	ids := r.submitAll(12, dispatch.Task{Policy: dispatch.RoundRobin})
	for _, id := range []string{"a", "b", "c"} {
		r.agent(id, newHost(map[string]work{"do": nothing}))
	}
	waittest.Until(t, "all take tasks", func() bool {
		workers, err := r.queue.Workers(t.Context())
		return err == nil && len(workers) == 3
	})
	r.dispatcher("d")
	if at := r.where(ids); at["a"] != 4 || at["b"] != 4 || at["c"] != 4 {
		t.Errorf("want 4 each, got %v", at)
	}
}

func TestLeastLoadedGoesByWhatAnAgentCanDoAtOnce(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	ids := r.submitAll(12, dispatch.Task{Policy: dispatch.LeastLoaded})
	r.agent("small", newHost(map[string]work{"do": held(release)}), func(c *dispatch.WorkerConfig) { c.Concurrency = 4 })
	r.agent("large", newHost(map[string]work{"do": held(release)}), func(c *dispatch.WorkerConfig) { c.Concurrency = 8 })
	waittest.Until(t, "both take tasks", func() bool {
		workers, err := r.queue.Workers(t.Context())
		return err == nil && len(workers) == 2
	})
	r.dispatcher("d")
	waittest.Until(t, "all run", func() bool {
		running, err := r.queue.List(t.Context(), dispatch.Filter{States: []dispatch.State{dispatch.Running}})
		return err == nil && len(running) == 12
	})
	close(release)
	if at := r.where(ids); at["small"] != 4 || at["large"] != 8 {
		t.Errorf("want 4 and 8, got %v", at)
	}
}

func TestRendezvousKeepsKeysTogetherWhenAgentsComeAndGo(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	agents := map[string]*agent{}
	add := func(id string) {
		agents[id] = r.agent(id, newHost(map[string]work{"do": nothing}))
		r.becomes(r.submit(dispatch.Task{Selector: ".id=" + id}), dispatch.Succeeded) // the dispatcher knows it
	}
	const keys = 40
	place := func() map[string]string {
		var ids []string
		for i := range keys {
			for range 2 { // of the same key
				ids = append(ids, r.submit(dispatch.Task{Policy: dispatch.Rendezvous, Key: fmt.Sprint("key ", i)}))
			}
		}
		at := map[string]string{}
		for _, id := range ids {
			info := r.becomes(id, dispatch.Succeeded)
			if was, ok := at[info.Key]; ok && was != info.Agent {
				t.Errorf("%s is at %s and at %s", info.Key, was, info.Agent)
			}
			at[info.Key] = info.Agent
		}
		return at
	}
	for _, id := range []string{"a", "b", "c"} {
		add(id)
	}
	three := place()
	add("d")
	four := place()
	moved := 0
	for key, at := range four {
		if at != three[key] {
			if moved++; at != "d" {
				t.Errorf("%s moved from %s to %s, which was there before", key, three[key], at)
			}
		}
	}
	if moved == 0 || moved > keys/2 {
		t.Errorf("%d of %d keys moved to the fourth agent, want about a quarter", moved, keys)
	}
	agents["d"].stop()
	delete(agents, "d")
	waittest.Until(t, "d is gone", func() bool {
		workers, err := r.queue.Workers(t.Context())
		return err == nil && len(workers) == 3
	})
	for key, at := range place() {
		if at != three[key] {
			t.Errorf("%s is at %s, was at %s before d came", key, at, three[key])
		}
	}
}

func TestTaskForAllRunsOnceOnEachAgentOfItsTime(t *testing.T) {
	r := newRig(t)
	if _, err := r.queue.Submit(t.Context(), dispatch.Task{Capability: "do", Policy: dispatch.All}); !errors.Is(err, dispatch.ErrNoAgent) {
		t.Errorf("without agents: want ErrNoAgent, got %v", err)
	}
	agents := map[string]*agent{}
	payload := strings.Repeat("long ", 1000) // which lies by itself
	for _, id := range []string{"a", "b", "c"} {
		agents[id] = r.agent(id, newHost(map[string]work{"do": func(_ context.Context, task plugin.Task, _ func(plugin.Result) error) error {
			if string(task.Payload) != payload {
				t.Errorf("payload of %d bytes", len(task.Payload))
			}
			return nil
		}}))
	}
	waittest.Until(t, "all take tasks", func() bool {
		workers, err := r.queue.Workers(t.Context())
		return err == nil && len(workers) == 3
	})
	s, err := r.queue.Submit(t.Context(), dispatch.Task{Capability: "do", Policy: dispatch.All, Selector: ".id!=b", Payload: []byte(payload)})
	if err != nil || s.Runs != 2 {
		t.Fatalf("got %+v, %v", s, err)
	}
	r.agent("late", newHost(map[string]work{"do": nothing}))
	r.dispatcher("d")
	info := r.becomes(s.ID, dispatch.Succeeded)
	if info.Runs == nil || info.Runs.Total != 2 || info.Runs.Succeeded != 2 {
		t.Errorf("got %+v", info.Runs)
	}
	runs, err := r.queue.List(t.Context(), dispatch.Filter{Parent: s.ID})
	var at []string
	for _, run := range runs {
		at = append(at, run.Agent)
	}
	if err != nil || !slices.Equal(at, []string{"a", "c"}) {
		t.Errorf("it ran at %v, %v", at, err)
	}
}

func TestTaskForAllIsCancelledWithItsRuns(t *testing.T) {
	r := newRig(t)
	r.agent("a", newHost(map[string]work{"do": endless}))
	b := r.agent("b", newHost(map[string]work{"do": nothing}))
	waittest.Until(t, "both take tasks", func() bool {
		workers, err := r.queue.Workers(t.Context())
		return err == nil && len(workers) == 2
	})
	id := r.submit(dispatch.Task{Policy: dispatch.All})
	b.stop() // its run waits for it
	r.dispatcher("d")
	waittest.Until(t, "one runs", func() bool {
		running, err := r.queue.List(t.Context(), dispatch.Filter{Parent: id, States: []dispatch.State{dispatch.Running}})
		return err == nil && len(running) == 1
	})
	if err := r.queue.Cancel(t.Context(), id, "op"); err != nil {
		t.Fatal(err)
	}
	if info := r.becomes(id, dispatch.Cancelled); info.Runs.Cancelled != 2 || info.CancelledBy != "op" {
		t.Errorf("got %+v %+v", info, info.Runs)
	}
}

func TestTaskGoesOnlyWhereItMay(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	set := func(env, group, version string) func(*dispatch.WorkerConfig) {
		return func(c *dispatch.WorkerConfig) {
			c.Labels, c.Groups, c.Version = map[string]string{"env": env}, []string{group}, version
		}
	}
	r.agent("a", newHost(map[string]work{"do": nothing}), set("test", "eu", "1.0.0"))
	b := newHost(map[string]work{"do": nothing, "other": nothing})
	b.set(plugin.Status{Name: "p", Version: "2.1.0-rc.1", State: plugin.Degraded, Capabilities: []string{"do", "other"}},
		plugin.Status{Name: "stopped", Version: "1.0.0", State: plugin.BackingOff, Capabilities: []string{"gone"}})
	r.agent("b", b, set("live", "us", "1.4.0"))
	for name, c := range map[string]struct {
		task  dispatch.Task
		agent string
		says  string
	}{
		"label":             {task: dispatch.Task{Selector: "env=test"}, agent: "a"},
		"absent label":      {task: dispatch.Task{Selector: "env!=test"}, agent: "b"},
		"group":             {task: dispatch.Task{Selector: ".group=us"}, agent: "b"},
		"id":                {task: dispatch.Task{Selector: ".id=a"}, agent: "a"},
		"program's version": {task: dispatch.Task{Selector: ".version>=1.2"}, agent: "b"},
		"plugin's version":  {task: dispatch.Task{Version: ">=2"}, agent: "b"},
		"older plugin":      {task: dispatch.Task{Version: "~1.0"}, agent: "a"},
		"capability":        {task: dispatch.Task{Capability: "other"}, agent: "b"},
		"plugin alone":      {task: dispatch.Task{Plugin: "p", Capability: "do", Selector: ".id=b"}, agent: "b"},
		"its only one":      {task: dispatch.Task{Plugin: "p"}, agent: "a"},
		"nobody's label":    {task: dispatch.Task{Selector: "env=none"}, says: "matches none of the 2 agents"},
		"nobody's version":  {task: dispatch.Task{Version: ">3"}, says: "has got the capability do in a version >3 running"},
		"plugin not well":   {task: dispatch.Task{Plugin: "stopped"}, says: "the plugin stopped with one capability"},
		"not there":         {task: dispatch.Task{Plugin: "q"}, says: "none of the 2 agents"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rig{T: t, queue: r.queue, log: r.log}
			id := r.submit(c.task)
			if c.agent != "" {
				if info := r.becomes(id, dispatch.Succeeded); info.Agent != c.agent {
					t.Errorf("it ran at %s, want %s", info.Agent, c.agent)
				}
				return
			}
			waittest.Nil(t, "it says why it waits", func() error {
				if info := r.get(id); info.State != dispatch.Queued || !strings.Contains(info.Waiting, c.says) {
					return fmt.Errorf("%s, %q", info.State, info.Waiting)
				}
				return nil
			})
		})
	}
}
