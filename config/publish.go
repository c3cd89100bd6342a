package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

// HistorySize is how many earlier documents of a scope are kept.
const HistorySize = 20

// putAttempts bounds how often Put tries again when others publish to the
// same scope at the same time.
const putAttempts = 10

// Errors of the publishing functions.
var (
	// ErrNotFound means that a scope has no document.
	ErrNotFound = errors.New("no such configuration document")
	// ErrInvalid means that a document was not published because it is no
	// mapping in YAML or JSON within the limits.
	ErrInvalid = errors.New("not a configuration document")
	// ErrConflict means that others kept publishing to the same scope.
	ErrConflict = errors.New("published by others at the same time")
)

// Document is a published document.
type Document struct {
	// Scope is global, group/<group> or agent/<agent-id>.
	Scope string `json:"scope"`
	// Revision is the etcd revision at which it was published.
	Revision int64 `json:"revision"`
	// Data is the text as it was published.
	Data []byte `json:"data"`
}

// Put publishes document, YAML or JSON, as that of scope (global,
// group/<group> or agent/<agent-id>) and returns its revision. What it
// replaces goes to the history, of which the newest HistorySize are kept.
//
// Only the form is checked here (ErrInvalid): the agents know the type. With
// an error that is neither ErrInvalid nor ErrConflict, such as a timeout, it
// may have been published all the same.
func Put(ctx context.Context, client *clientv3.Client, root, scope string, document []byte) (revision int64, err error) {
	if err := validScope(scope); err != nil {
		return 0, err
	}
	if _, err := parse(document, DefaultMaxBytes); err != nil {
		return 0, fmt.Errorf("%w: %s: %w", ErrInvalid, scope, err)
	}
	var retry backoff.Backoff
	for range putAttempts {
		revision, err := putOnce(ctx, client, root, scope, document)
		if !errors.Is(err, ErrConflict) {
			return revision, err
		}
		if err := retry.Wait(ctx); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("config %s: %w, %d times in a row: try again", scope, ErrConflict, putAttempts)
}

func putOnce(ctx context.Context, client *clientv3.Client, root, scope string, document []byte) (int64, error) {
	before, err := Get(ctx, client, root, scope)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	if before.Revision > 0 {
		if err := remember(ctx, client, root, before); err != nil {
			return 0, err
		}
	}
	key := documentKey(root, scope)
	r, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", before.Revision)).
		Then(clientv3.OpPut(key, string(document))).
		Commit()
	if err != nil {
		return 0, fmt.Errorf("write %s to etcd at %s: %w", key, etcdkv.Endpoints(client), err)
	}
	if !r.Succeeded {
		return 0, ErrConflict
	}
	return r.Header.Revision, nil
}

// remember puts the document that is about to be replaced into the history
// and drops what is too old there. It is a transaction of its own, since two
// large documents exceed what etcd takes at once; stopping after it leaves an
// entry that equals the current document and is written again next time.
func remember(ctx context.Context, client *clientv3.Client, root string, d Document) error {
	kept, err := history(ctx, client, root, d.Scope, clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	kept = slices.DeleteFunc(kept, func(k Document) bool { return k.Revision == d.Revision })
	ops := []clientv3.Op{clientv3.OpPut(historyKey(root, d.Scope, d.Revision), string(d.Data))}
	// A transaction holds 128 operations; what is left goes next time.
	for i := HistorySize - 1; i < len(kept) && len(ops) < 100; i++ {
		ops = append(ops, clientv3.OpDelete(historyKey(root, d.Scope, kept[i].Revision)))
	}
	r, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(documentKey(root, d.Scope)), "=", d.Revision)).
		Then(ops...).
		Commit()
	if err != nil {
		return fmt.Errorf("write %s to etcd at %s: %w", historyKey(root, d.Scope, d.Revision), etcdkv.Endpoints(client), err)
	}
	if !r.Succeeded {
		return ErrConflict
	}
	return nil
}

// Get returns the document of scope; ErrNotFound if there is none.
func Get(ctx context.Context, client *clientv3.Client, root, scope string) (Document, error) {
	if err := validScope(scope); err != nil {
		return Document{}, err
	}
	key := documentKey(root, scope)
	r, err := client.Get(ctx, key)
	if err != nil {
		return Document{}, fmt.Errorf("read %s from etcd at %s: %w", key, etcdkv.Endpoints(client), err)
	}
	if len(r.Kvs) == 0 {
		return Document{}, fmt.Errorf("%w: %s is not in etcd", ErrNotFound, key)
	}
	return Document{Scope: scope, Revision: r.Kvs[0].ModRevision, Data: r.Kvs[0].Value}, nil
}

// History returns the documents that scope had before its current one, the
// newest first, at most HistorySize.
func History(ctx context.Context, client *clientv3.Client, root, scope string) ([]Document, error) {
	if err := validScope(scope); err != nil {
		return nil, err
	}
	docs, err := history(ctx, client, root, scope)
	if err != nil {
		return nil, err
	}
	// A Put that stopped half-way leaves the current one there as well.
	current, err := Get(ctx, client, root, scope)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	docs = slices.DeleteFunc(docs, func(d Document) bool { return d.Revision == current.Revision })
	return docs[:min(len(docs), HistorySize)], nil
}

func history(ctx context.Context, client *clientv3.Client, root, scope string, opts ...clientv3.OpOption) ([]Document, error) {
	prefix := historyPrefix(root, scope)
	r, err := client.Get(ctx, prefix, append(opts, clientv3.WithPrefix())...)
	if err != nil {
		return nil, fmt.Errorf("read %s from etcd at %s: %w", prefix, etcdkv.Endpoints(client), err)
	}
	var docs []Document
	for _, kv := range r.Kvs {
		revision, err := strconv.ParseInt(strings.TrimPrefix(string(kv.Key), prefix), 10, 64)
		if err != nil {
			continue // not written by this package
		}
		docs = append(docs, Document{Scope: scope, Revision: revision, Data: kv.Value})
	}
	slices.SortFunc(docs, func(a, b Document) int { return cmp.Compare(b.Revision, a.Revision) })
	return docs, nil
}
