package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/config"
)

// effectiveView is what the layers come to for one agent.
type effectiveView struct {
	Agent  string   `json:"agent"`
	Groups []string `json:"groups"`
	// Revision is that of the newest layer, Running what the agent says it
	// runs; nil = it is not registered, or has not said yet.
	Revision int64  `json:"revision"`
	Running  *int64 `json:"running,omitempty"`
	// Local are the layers of the host that the agent tells of. Their values
	// are not known here: they apply where a field is said to be the default's.
	Local  []config.Layer `json:"local,omitempty"`
	Fields []config.Field `json:"fields"`
}

// effective merges the layers of the agent called id. groups are for one that
// is not registered.
func (c *configFlags) effective(cmd *cobra.Command, client *clientv3.Client, eye *eye, id string, groups []string) (effectiveView, error) {
	v := effectiveView{Agent: id, Groups: groups}
	var schema *config.Schema
	err := c.directory(func(d *agent.Directory) error {
		return c.etcd.ask(cmd.Context(), func(ctx context.Context) error {
			e, err := d.Get(ctx, id)
			switch {
			case errors.Is(err, agent.ErrNotRegistered) && len(groups) > 0:
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "note: %s is not registered: its defaults are not known\n", id)
				return nil
			case errors.Is(err, agent.ErrNotRegistered):
				return fmt.Errorf("%w; name its groups with --group to see what it would get", err)
			case err != nil:
				return err
			}
			v.Groups = e.Groups
			if e.Status != nil && e.Status.Config != nil {
				v.Running = &e.Status.Config.Running
				for _, l := range e.Status.Config.Layers {
					if l.Revision == 0 {
						v.Local = append(v.Local, l)
					}
				}
			}
			schema, err = c.defaults(ctx, cmd, client, e)
			return err
		})
	})
	if err != nil {
		return v, err
	}
	var merged *config.Merged
	err = c.etcd.ask(cmd.Context(), func(ctx context.Context) error {
		merged, err = config.Effective(ctx, client, c.root(), id, v.Groups)
		return err
	})
	if err != nil {
		return v, err
	}
	v.Revision = merged.Revision
	v.Fields = merged.Fields(schema, eye.Redaction)
	return v, nil
}

func localLayers(s *config.Status) []config.Layer {
	return slices.DeleteFunc(slices.Clone(s.Layers), func(l config.Layer) bool { return l.Revision != 0 })
}

// defaults is the agent's schema; nil, with a note, if it has none.
func (c *configFlags) defaults(ctx context.Context, cmd *cobra.Command, client *clientv3.Client, e agent.Entry) (*config.Schema, error) {
	why := "it published no schema"
	if e.ConfigSchema != "" {
		schema, err := config.ReadSchema(ctx, client, c.root(), e.ConfigSchema)
		if err == nil || !errors.Is(err, config.ErrNotFound) && !errors.Is(err, config.ErrSchema) {
			return schema, err
		}
		why = err.Error()
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "note: the defaults of %s are not known: %s\n", e.ID, oneLine(why))
	return nil, nil
}

func (g *configGet) showEffective(cmd *cobra.Command, client *clientv3.Client, eye *eye) error {
	v, err := g.configFlags.effective(cmd, client, eye, g.agent, g.groups)
	if err != nil {
		return err
	}
	if g.output.json() {
		return printJSON(cmd.OutOrStdout(), v)
	}
	rows := [][]string{{"FIELD", "VALUE", "FROM", "REVISION", "LINE"}}
	for _, f := range v.Fields {
		value, err := json.Marshal(f.Value)
		if err != nil {
			return err
		}
		revision, line := "-", "-"
		if f.Revision > 0 {
			revision = fmt.Sprint(f.Revision)
		}
		if f.Line > 0 {
			line = fmt.Sprint(f.Line)
		}
		rows = append(rows, []string{oneLine(f.Path), oneLine(string(value)), f.Layer, revision, line})
	}
	if err := printTable(cmd.OutOrStdout(), rows); err != nil {
		return err
	}
	for _, l := range v.Local {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "note: %s also has settings of its host, below these and over the default: %s\n",
			v.Agent, oneLine(strings.Join(append([]string{l.Name}, l.Variables...), " ")))
	}
	if v.Running != nil && *v.Running != v.Revision {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "note: %s runs revision %d, and not yet %d: see agentd fleet\n", v.Agent, *v.Running, v.Revision)
	}
	return nil
}
