package config

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// Document is a published document, or the deletion of one.
type Document struct {
	// Scope is global, group/<group> or agent/<agent-id>.
	Scope string `json:"scope"`
	// Revision is the etcd revision at which it was published.
	Revision int64 `json:"revision"`
	// Data is the text as it was published; nil for a deletion.
	Data []byte `json:"data"`
	// By, At and Message say who published it, when, and why. They are zero
	// where that is not known: older versions, and other tools, leave no record.
	By      string    `json:"by,omitempty"`
	At      time.Time `json:"at,omitzero"`
	Message string    `json:"message,omitempty"`
	// Restores is the revision that a rollback published again; else 0.
	Restores int64 `json:"restores,omitempty"`
	// Deleted: at this revision the document was deleted.
	Deleted bool `json:"deleted,omitempty"`
	// Problem says why the record of it could not be read; empty if it could,
	// or if there is none.
	Problem string `json:"problem,omitempty"`
}

// note takes over what its record says. A damaged one must not keep the
// document from being read.
func (d *Document) note(data []byte) {
	r, err := decodeRecord(data)
	if err != nil {
		d.Problem = err.Error()
		return
	}
	d.By, d.At, d.Message, d.Restores, d.Deleted = r.By, r.At, r.Message, r.Restores, r.Deleted
}

func (d *Document) byWhom() string {
	text := ""
	if d.By != "" {
		text = " by " + d.By
	}
	if !d.At.IsZero() {
		text += " at " + d.At.UTC().Format(time.RFC3339)
	}
	return text
}

// Get returns the document of scope; ErrNotFound if there is none.
func Get(ctx context.Context, client *clientv3.Client, root, scope string) (Document, error) {
	if err := CheckScope(scope); err != nil {
		return Document{}, err
	}
	now, err := read(ctx, client, root, scope)
	if err != nil {
		return Document{}, err
	}
	if now.document == nil {
		return Document{}, fmt.Errorf("%w: %s is not in etcd", ErrNotFound, documentKey(root, scope))
	}
	return now.current(), nil
}

// Latest returns the document of scope, or the deletion that left none; its
// Revision is 0 if neither is known of.
func Latest(ctx context.Context, client *clientv3.Client, root, scope string) (Document, error) {
	if err := CheckScope(scope); err != nil {
		return Document{}, err
	}
	now, err := read(ctx, client, root, scope)
	if err != nil {
		return Document{}, err
	}
	return now.current(), nil
}

// state is what etcd holds of a scope at one revision.
type state struct {
	scope            string
	document, record *mvccpb.KeyValue // nil = none
	revision         int64            // of etcd, at which it was read
}

// read reads both keys. It is no transaction: the client repeats a Get while
// etcd is unavailable, a transaction it does not.
func read(ctx context.Context, client *clientv3.Client, root, scope string) (s state, err error) {
	for range 3 {
		if s, err = readOnce(ctx, client, root, scope); !errors.Is(err, rpctypes.ErrCompacted) {
			break // else etcd was compacted between the two
		}
	}
	return s, err
}

func readOnce(ctx context.Context, client *clientv3.Client, root, scope string) (state, error) {
	s := state{scope: scope}
	key := documentKey(root, scope)
	r, err := client.Get(ctx, key)
	if err != nil {
		return s, unread(client, key, err)
	}
	s.revision = r.Header.Revision
	if len(r.Kvs) > 0 {
		s.document = r.Kvs[0]
	}
	key = recordKey(root, scope)
	if r, err = client.Get(ctx, key, clientv3.WithRev(s.revision)); err != nil {
		return s, unread(client, key, err)
	}
	if len(r.Kvs) > 0 {
		s.record = r.Kvs[0]
	}
	return s, nil
}

func unread(client *clientv3.Client, key string, err error) error {
	return fmt.Errorf("read %s from etcd at %s: %w", key, etcdkv.Endpoints(client), err)
}

func (s state) documentRevision() int64 {
	if s.document == nil {
		return 0
	}
	return s.document.ModRevision
}

func (s state) recordRevision() int64 {
	if s.record == nil {
		return 0
	}
	return s.record.ModRevision
}

// recorded tells whether the record is about what is there now.
func (s state) recorded() bool {
	return s.record != nil && (s.document == nil || s.record.ModRevision == s.document.ModRevision)
}

// current is the document that is there, or its deletion; its revision is 0 if
// there never was one that is known of.
func (s state) current() Document {
	d := Document{Scope: s.scope}
	if s.document != nil {
		d.Revision, d.Data = s.document.ModRevision, s.document.Value
	}
	if s.recorded() {
		d.note(s.record.Value)
		if s.document == nil && d.Deleted {
			d.Revision = s.record.ModRevision
		}
	}
	return d
}

// unchanged compares that nobody has published since.
func (s state) unchanged(root string) []clientv3.Cmp {
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(documentKey(root, s.scope)), "=", s.documentRevision()),
		clientv3.Compare(clientv3.ModRevision(recordKey(root, s.scope)), "=", s.recordRevision()),
	}
}

func (s state) conflict(c Change) error {
	found := s.current()
	found.Data = nil
	if c.Replaces == AnyRevision {
		return ErrConflict
	}
	return &ConflictError{Scope: c.Scope, Wanted: c.Replaces, Found: found}
}
