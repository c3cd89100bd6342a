package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/strictjson"
)

// ListOptions say which agents to list. The zero value lists all.
type ListOptions struct {
	// Selector says which; the zero value selects all.
	Selector Selector
	// Limit is the most entries that a page has; 0 = all in one page.
	Limit int
	// Continue is that of the page before. The page is read at the same
	// revision, so that all pages together are one consistent list.
	Continue string
}

// Page is a part of a list of agents.
type Page struct {
	// Revision is the revision of the store that the whole list is read at.
	Revision int64
	// Entries are by id.
	Entries []Entry
	// Continue is what the next page is asked for with; "" = this is the last.
	Continue string
	// Strays are keys below registry whose id is none, as far as they lie where
	// this page was read. An Index knows all.
	Strays Strays
}

// restarts is how often List begins anew when etcd compacts what it reads.
const restarts = 3

// List returns agents that are alive, by id, as they were at one revision. It
// reads in pieces, so that no answer of etcd grows with the fleet, and waits up
// to 30 s for etcd to answer each, unless ctx ends before. A page that
// opts.Continue asks for fails with ErrExpired once etcd has compacted its
// revision, which is mostly after some minutes.
func (d *Directory) List(ctx context.Context, opts ListOptions) (Page, error) {
	if opts.Limit < 0 {
		return Page{}, fmt.Errorf("list agents: want a limit of 0 or more, found %d", opts.Limit)
	}
	var at position
	if opts.Continue != "" {
		var err error
		if at, err = parsePosition(opts.Continue); err != nil {
			return Page{}, fmt.Errorf("list agents: %w", err)
		}
	}
	for i := 1; ; i++ {
		page, err := d.page(ctx, opts, at)
		switch {
		case err == nil:
			return page, nil
		case errors.Is(err, ErrExpired) && opts.Continue == "" && i < restarts:
			continue // nothing has been handed out yet
		}
		return Page{}, fmt.Errorf("list agents: etcd at %s: %w", d.addr, err)
	}
}

func (d *Directory) page(ctx context.Context, opts ListOptions, at position) (Page, error) {
	r := reader{client: d.client, cluster: at.Cluster, revision: at.Revision}
	page := Page{Entries: []Entry{}}
	from, strays := d.keys.registry(""), newRoster(d.keys)
	end := clientv3.GetPrefixRangeEnd(from)
	var limits pieceLimits
	if at.After != "" {
		from = d.keys.registry(at.After) + "\x00"
	}
	for from != "" {
		kvs, next, err := r.piece(ctx, from, end, &limits.registry)
		if err != nil {
			return Page{}, err
		}
		agents := newRoster(d.keys)
		for _, kv := range kvs {
			if agents.set(string(kv.Key), kv.Value, kv.CreateRevision) == "" {
				strays.set(string(kv.Key), nil, 0)
			}
		}
		if err := d.complete(ctx, &r, &limits, agents); err != nil {
			return Page{}, err
		}
		for _, e := range agents.entries() {
			if !opts.Selector.Matches(e) {
				continue
			}
			if opts.Limit > 0 && len(page.Entries) == opts.Limit {
				last := page.Entries[len(page.Entries)-1].ID
				page.Continue = position{Schema: schema, Cluster: r.cluster, Revision: r.revision, After: last}.String()
				next = ""
				break
			}
			page.Entries = append(page.Entries, *e)
		}
		from = next
	}
	page.Revision, page.Strays = r.revision, strays.report()
	return page, nil
}

// pieceLimits are those of a list.
type pieceLimits struct{ registry, status, plugins pieceLimit }

// complete reads what hangs on the registrations in agents. Between the first
// and the last of them lie others' keys only where somebody else writes.
func (d *Directory) complete(ctx context.Context, r *reader, limits *pieceLimits, agents *roster) error {
	var first, last, firstPlugin, lastPlugin string
	for id := range agents.records {
		if first == "" || id < first {
			first = id
		}
		last = max(last, id)
		// By these keys a-b comes before a: a hyphen sorts before a slash.
		if key := d.keys.plugin(id, ""); firstPlugin == "" || key < firstPlugin {
			firstPlugin = key
		}
		lastPlugin = max(lastPlugin, d.keys.plugin(id, ""))
	}
	if first == "" {
		return nil
	}
	take := func(kv *mvccpb.KeyValue) {
		if _, id, _, ok := d.keys.split(string(kv.Key)); ok && agents.records[id] != nil {
			agents.take(kv)
		}
	}
	if err := r.each(ctx, d.keys.status(first), d.keys.status(last)+"\x00", &limits.status, take); err != nil {
		return err
	}
	return r.each(ctx, firstPlugin, clientv3.GetPrefixRangeEnd(lastPlugin), &limits.plugins, take)
}

// position is where a list goes on. It is handed out as text, and comes back
// from outside.
type position struct {
	Schema   int    `json:"schema"`
	Cluster  uint64 `json:"cluster,string"`
	Revision int64  `json:"revision"`
	After    string `json:"after"`
}

// maxPosition bounds the text of a position, in bytes.
const maxPosition = 512

func (p position) String() string {
	text, _ := json.Marshal(p) //nolint:errchkjson // numbers and a string
	return base64.RawURLEncoding.EncodeToString(text)
}

func parsePosition(text string) (position, error) {
	var p position
	if len(text) > maxPosition {
		return p, fmt.Errorf("continue: want what a page gave, found %d bytes", len(text))
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = strictjson.Check(data, 1)
	}
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		err = dec.Decode(&p)
	}
	switch {
	case err != nil:
		return p, fmt.Errorf("continue: want what a page gave, found %.60q: %w", text, err)
	case p.Schema != schema:
		return p, fmt.Errorf("continue: want one of schema %d, found %d: list again from the start: %w", schema, p.Schema, ErrExpired)
	case p.Revision <= 0 || etcdkv.ValidID(p.After) != nil:
		return p, fmt.Errorf("continue: want what a page gave, found %.60q", text)
	}
	return p, nil
}
