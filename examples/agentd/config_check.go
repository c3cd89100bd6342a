package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/examples/agentd/internal/schemacheck"
)

// review is what the schemas of the live agents say of a document.
//
// The document is checked alone, and not over the other layers: agents decode
// each layer alone as well, and layers that fit the type each for itself fit
// it together, since a list or a scalar is replaced as a whole.
type review struct {
	Agents  int `json:"agents"`  // that the document concerns
	Checked int `json:"checked"` // of them, by their schema
	// Refusals are by schema.
	Refusals []refusal `json:"refusals,omitempty"`
	// Notes say why for some agents only the form was checked.
	Notes []string `json:"notes,omitempty"`
}

// refusal is what the agents of one schema would say.
type refusal struct {
	Schema   string              `json:"schema"`
	Agents   []string            `json:"agents"`
	Versions []string            `json:"versions"`
	Faults   []schemacheck.Fault `json:"faults"`
}

// review checks document, of scope, by the schemas of the agents that it
// concerns. An error means that it could not be done.
func (c *configFlags) review(ctx context.Context, client *clientv3.Client, scope string, document []byte) (review, error) {
	parsed, err := config.Parse(document)
	if err != nil {
		return review{}, fmt.Errorf("%w: %s: %w", config.ErrInvalid, scope, err)
	}
	agents, err := c.agents(ctx, scope)
	if err != nil {
		return review{}, err
	}
	var r review
	without := slices.DeleteFunc(slices.Clone(agents), configAgent.follows)
	agents = slices.DeleteFunc(agents, func(a configAgent) bool { return !a.follows() })
	r.Agents = len(agents)
	if len(without) > 0 {
		r.Notes = append(r.Notes, "no document concerns "+named(without)+" without a configuration")
	}
	if len(agents) == 0 {
		r.Notes = append(r.Notes, "no live agent is concerned: only the form was checked")
	}
	r.Notes = append(r.Notes, othersAtFault(agents, scope)...)
	bySchema := map[string][]configAgent{}
	for _, a := range agents {
		bySchema[a.schema] = append(bySchema[a.schema], a)
	}
	for _, digest := range slices.Sorted(maps.Keys(bySchema)) {
		of := bySchema[digest]
		if digest == "" {
			r.Notes = append(r.Notes, fmt.Sprintf("%s without a schema: there only the form was checked", named(of)))
			continue
		}
		checker, err := c.checker(ctx, client, digest)
		if errors.Is(err, errUnusable) {
			r.Notes = append(r.Notes, fmt.Sprintf("for %s only the form was checked: %v", named(of), err))
			continue
		} else if err != nil {
			return review{}, err
		}
		r.Checked += len(of)
		if faults := checker.Check(parsed); len(faults) > 0 {
			r.Refusals = append(r.Refusals, refusal{digest, idsOf(of), versionsOf(of), faults})
		}
	}
	return r, nil
}

// othersAtFault tells of agents that refuse what they are to run because of
// another layer, and so will not take this one either.
func othersAtFault(agents []configAgent, scope string) []string {
	byKey := map[string][]configAgent{}
	for _, a := range agents {
		if a.status != nil && a.status.Config != nil && isRefusing(a.status.Config) && !isDocument(a.status.Config.LastFailed.Key, scope) {
			key := a.status.Config.LastFailed.Key
			byKey[key] = append(byKey[key], a)
		}
	}
	var notes []string
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		of := byKey[key]
		notes = append(notes, fmt.Sprintf("%s will not take it before %s is put right: %s", named(of), dash(key), of[0].status.Config.LastFailed.Reason))
	}
	return notes
}

// errUnusable is wrapped where a schema is not there or is damaged.
var errUnusable = errors.New("the schema cannot be used")

func (c *configFlags) checker(ctx context.Context, client *clientv3.Client, digest string) (checker *schemacheck.Checker, err error) {
	err = c.etcd.ask(ctx, func(ctx context.Context) error {
		schema, err := config.ReadSchema(ctx, client, c.root(), digest)
		if errors.Is(err, config.ErrNotFound) || errors.Is(err, config.ErrSchema) {
			return fmt.Errorf("%w: %w", errUnusable, err)
		} else if err != nil {
			return err
		}
		if checker, err = schemacheck.New(schema); err != nil {
			return fmt.Errorf("%w: %w", errUnusable, err)
		}
		return nil
	})
	return checker, err
}

// shownFaults is how many of a refusal's faults are named.
const shownFaults = 10

// err says which agents would refuse the document and why; nil = none.
func (r review) err() error {
	var all []error
	for _, refused := range r.Refusals {
		var faults []string
		for _, f := range refused.Faults[:min(len(refused.Faults), shownFaults)] {
			faults = append(faults, f.String())
		}
		if more := len(refused.Faults) - shownFaults; more > 0 {
			faults = append(faults, fmt.Sprintf("and %d more", more))
		}
		all = append(all, fmt.Errorf("%s would refuse it: %s", describeAgents(refused.Agents, refused.Versions), strings.Join(faults, "; ")))
	}
	return errors.Join(all...)
}

func idsOf(agents []configAgent) []string {
	var all []string
	for _, a := range agents {
		all = append(all, a.id)
	}
	return all
}

func versionsOf(agents []configAgent) []string {
	var all []string
	for _, a := range agents {
		all = append(all, dash(a.version))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func named(agents []configAgent) string { return describeAgents(idsOf(agents), versionsOf(agents)) }

// describeAgents is "2 agents of version 1.0.0 (a1, a2)".
func describeAgents(ids, versions []string) string {
	return fmt.Sprintf("%s of version %s (%s)", counted(len(ids), "agent"), few(versions), few(ids))
}

// few names the first of several.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
