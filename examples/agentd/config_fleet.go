package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/agent"
)

// configAgent is what the config commands need to know of a live agent.
type configAgent struct {
	id, version, schema string
	groups              []string
	status              *agent.Status
}

func newConfigAgent(e agent.Entry) configAgent {
	return configAgent{id: e.ID, version: e.Version, schema: e.ConfigSchema, groups: e.Groups, status: e.Status}
}

// concerns tells whether a document of scope is a layer of the agent's.
func (a configAgent) concerns(scope string) bool {
	kind, name, _ := strings.Cut(scope, "/")
	switch kind {
	case "global":
		return true
	case "group":
		return slices.Contains(a.groups, name)
	}
	return a.id == name
}

// follows tells whether the agent takes documents at all: a program need not
// have a configuration. While its status is not there it may.
func (a configAgent) follows() bool { return a.status == nil || a.status.Config != nil }

// agents lists the live agents that a document of scope concerns.
func (c *configFlags) agents(ctx context.Context, scope string) (found []configAgent, err error) {
	err = c.directory(func(d *agent.Directory) error {
		return c.etcd.ask(ctx, func(ctx context.Context) error {
			page, err := d.List(ctx, agent.ListOptions{})
			for _, e := range page.Entries {
				if a := newConfigAgent(e); a.concerns(scope) {
					found = append(found, a)
				}
			}
			return err
		})
	})
	return found, err
}

func (c *configFlags) directory(f func(*agent.Directory) error) error {
	cfg, err := c.etcd.config()
	if err != nil {
		return err
	}
	directory, err := agent.OpenDirectory(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = directory.Close() }()
	return f(directory)
}

// outcome is what the agents concerned made of a revision.
type outcome struct {
	Agents  int               `json:"agents"`
	Running int               `json:"running"`
	Refused []refusedByAgent  `json:"refused,omitempty"`
	waiting map[string]string // id to version
}

type refusedByAgent struct {
	Agent   string `json:"agent"`
	Version string `json:"version"`
	// Key is the layer at fault, which may be another one.
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// outcomeOf counts what the agents tell of revision.
func outcomeOf(agents []configAgent, revision int64) outcome {
	o := outcome{Agents: len(agents), waiting: map[string]string{}}
	for _, a := range agents {
		switch {
		case a.status == nil:
			o.waiting[a.id] = a.version
		case a.status.Config.Running >= revision:
			o.Running++
		case a.status.Config.LastFailed != nil && a.status.Config.LastFailed.Revision >= revision:
			o.Refused = append(o.Refused, refusedByAgent{a.id, a.version, a.status.Config.LastFailed.Key, a.status.Config.LastFailed.Reason})
		default:
			o.waiting[a.id] = a.version
		}
	}
	return o
}

func (o outcome) String() string {
	text := fmt.Sprintf("%d of %d agents run it", o.Running, o.Agents)
	if len(o.Refused) > 0 {
		text += fmt.Sprintf(", refused by %d", len(o.Refused))
	}
	return text
}

// await follows the agents that a document of scope concerns until each has
// taken revision or refused it.
func (c *configFlags) await(ctx context.Context, scope string, revision int64, limit time.Duration, w io.Writer) (outcome, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last outcome
	told, done := "", false
	err := c.directory(func(d *agent.Directory) error {
		return d.Watch(limited, func(s *agent.Snapshot, _ agent.Changes) {
			var agents []configAgent
			for _, e := range s.List(agent.Selector{}) {
				if a := newConfigAgent(*e); a.concerns(scope) && a.follows() {
					agents = append(agents, a)
				}
			}
			last = outcomeOf(agents, revision)
			if text := last.String(); text != told {
				told = text
				say(w, "%s", text)
			}
			if done = len(last.waiting) == 0; done {
				cancel()
			}
		})
	})
	switch {
	case ctx.Err() != nil:
		return last, ctx.Err()
	case !done && limited.Err() == nil:
		return last, err
	}
	return last, last.verdict(scope, revision, limit)
}

// verdict is nil if all agents run the revision.
func (o outcome) verdict(scope string, revision int64, limit time.Duration) error {
	var wrong []error
	if n := len(o.Refused); n > 0 {
		first := o.Refused[0]
		wrong = append(wrong, fmt.Errorf("want %d agents to run revision %d of %s, found it refused by %d, which keep what they had: %s (%s) because of %s: %s; agentd fleet shows all, agentd config history %s what there is to go back to (config rollback --to)",
			o.Agents, revision, scope, n, first.Agent, first.Version, dash(first.Key), first.Reason, scope))
	}
	if n := len(o.waiting); n > 0 {
		wrong = append(wrong, fmt.Errorf("want an answer of %d agents within %v, found none of %d, such as %s: it is published, and they take it when they can; see agentd fleet", o.Agents, limit, n, some(o.waiting)))
	}
	return errors.Join(wrong...)
}

// some names one agent of several.
func some(agents map[string]string) string {
	least := ""
	for id := range agents {
		if least == "" || id < least {
			least = id
		}
	}
	return fmt.Sprintf("%s (%s)", least, dash(agents[least]))
}
