package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// LayerDefault is the Field.Layer of what no document says.
const LayerDefault = "default"

// Merged is the configuration that documents come to.
type Merged struct {
	// Values are the documents merged, without defaults.
	Values map[string]any
	// Layers are the documents that there are, the weakest first.
	Layers []Document
	// Revision is the highest of theirs; 0 = there are none.
	Revision int64

	trees []*tree
}

// Field is one setting of a Merged: a value that is no mapping, or an empty
// mapping.
type Field struct {
	// Path is as in error messages: a.b[2].c.
	Path  string `json:"path"`
	Value any    `json:"value"`
	// Layer is the scope of the document that it is from, or "default".
	Layer string `json:"layer"`
	// Revision, Line and Column say where in that document; 0 for a default.
	Revision int64 `json:"revision,omitempty"`
	Line     int   `json:"line,omitempty"`
	Column   int   `json:"column,omitempty"`
}

// Effective merges the documents that apply to the agent called id, of those
// groups in this order, as the agent does: what etcd held of them at one
// revision. What a host has of its own (environment and file layers) lies
// below them, and is not known here. An error that wraps ErrInvalid names a
// document that cannot be read: the agent then keeps what it has.
func Effective(ctx context.Context, client *clientv3.Client, root, id string, groups []string) (*Merged, error) {
	if _, err := (Source{Client: client, Root: root, AgentID: id, Groups: groups}).keys(); err != nil {
		return nil, err
	}
	scopes := []string{"global"}
	for _, g := range groups {
		scopes = append(scopes, "group/"+g)
	}
	scopes = append(scopes, "agent/"+id)
	for attempt := 1; ; attempt++ {
		documents, err := snapshot(ctx, client, root, scopes)
		if err == nil {
			return MergeDocuments(documents...)
		}
		if attempt == 3 || !errors.Is(err, rpctypes.ErrCompacted) {
			return nil, err
		}
	}
}

// snapshot reads the documents of scopes at one revision.
func snapshot(ctx context.Context, client *clientv3.Client, root string, scopes []string) ([]Document, error) {
	var documents []Document
	var at int64
	for _, scope := range scopes {
		key := documentKey(root, scope)
		r, err := client.Get(ctx, key, clientv3.WithRev(at))
		if err != nil {
			return nil, unread(client, key, err)
		}
		if at == 0 {
			at = r.Header.Revision
		}
		for _, kv := range r.Kvs {
			documents = append(documents, Document{Scope: scope, Revision: kv.ModRevision, Data: kv.Value})
		}
	}
	return documents, nil
}

// MergeDocuments merges documents, the weakest first.
func MergeDocuments(documents ...Document) (*Merged, error) {
	m := &Merged{}
	for _, d := range documents {
		if err := m.add(d); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Merged) add(d Document) error {
	t, err := parse(d.Data, DefaultMaxBytes)
	if err != nil {
		return fmt.Errorf("%w: %s, revision %d: %w", ErrInvalid, d.Scope, d.Revision, err)
	}
	m.Values = merge(m.Values, t.values)
	m.Layers, m.trees = append(m.Layers, d), append(m.trees, t)
	m.Revision = max(m.Revision, d.Revision)
	return nil
}

// Fields lists the settings by their paths, hidden as r says. With s, which
// may be nil, the defaults of fields that no document sets are among them.
func (m *Merged) Fields(s *Schema, r Redaction) []Field {
	l := lister{merged: m, redaction: r}
	var of places
	if s != nil {
		of = roots([]*Schema{s})
	}
	l.mapping(nil, "", m.Values, of, roots(r.Schemas))
	return l.fields
}

// lister collects the fields of a Merged.
type lister struct {
	merged    *Merged
	redaction Redaction
	fields    []Field
}

// mapping lists values, the mapping at path, with the defaults that of knows;
// seen are the places that decide what is hidden.
func (l *lister) mapping(names []string, path string, values map[string]any, of, seen places) {
	keys := map[string]bool{}
	for name := range values {
		keys[name] = true
	}
	for _, p := range of {
		for name := range p.node.Properties {
			keys[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		v, set := values[name]
		l.field(append(names[:len(names):len(names)], name), join(path, name), v, set, of.field(name), seen.field(name))
	}
}

func (l *lister) field(names []string, path string, v any, set bool, of, seen places) {
	mapping, isMapping := v.(map[string]any)
	hidden := !l.redaction.Off && (seen.secret() || len(seen) == 0)
	switch {
	case set && isMapping && len(mapping) > 0 && !hidden, !set && len(of) > 0 && !of[0].shared && len(of[0].node.Properties) > 0:
		l.mapping(names, path, mapping, of, seen)
	case set:
		f := Field{Path: path, Value: l.redaction.value(v, seen)}
		if i := l.merged.origin(names); i >= 0 {
			d := l.merged.Layers[i]
			f.Layer, f.Revision = d.Scope, d.Revision
			f.Line, f.Column, _ = l.merged.trees[i].at(path)
		}
		l.fields = append(l.fields, f)
	case len(of) > 0 && of[0].node.Default != nil:
		l.fields = append(l.fields, Field{Path: path, Value: l.redaction.value(of[0].node.Default, seen), Layer: LayerDefault})
	}
}

// origin is the last layer that sets what the names lead to.
func (m *Merged) origin(names []string) int {
	for i, t := range slices.Backward(m.trees) {
		var v any = t.values
		for _, name := range names {
			below, _ := v.(map[string]any)
			v = below[name]
		}
		if v != nil {
			return i
		}
	}
	return -1
}
