package main

import (
	"context"
	"slices"
	"strings"

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
	directory, err := c.etcd.directory()
	if err != nil {
		return err
	}
	defer func() { _ = directory.Close() }()
	return f(directory)
}
