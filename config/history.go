package config

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// HistorySize is how many earlier documents of a scope are kept.
	HistorySize = 20

	scanPage = 1000 // keys a request
	// maxScan and maxTrimScan bound how many keys below a scope's history are
	// looked at for reading it, and when a document is published: what does not
	// belong there must not keep anybody from either.
	maxScan     = 200_000
	maxTrimScan = 5_000
	// maxDeletes keeps a transaction below etcd's 128 operations.
	maxDeletes = 100
)

// Past is what scope had before its current document.
type Past struct {
	// Documents are the earlier ones, the newest first, at most HistorySize.
	Documents []Document `json:"documents"`
	// Foreign is how many keys lie there that no version of this package
	// writes, and ForeignKey is one of them.
	Foreign    int    `json:"foreign,omitempty"`
	ForeignKey string `json:"foreign_key,omitempty"`
	// Incomplete: there are so many that not all keys were looked at.
	Incomplete bool `json:"incomplete,omitempty"`
}

// History returns what scope had before its current document.
func History(ctx context.Context, client *clientv3.Client, root, scope string) (Past, error) {
	if err := CheckScope(scope); err != nil {
		return Past{}, err
	}
	now, err := read(ctx, client, root, scope)
	if err != nil {
		return Past{}, err
	}
	found, err := scan(ctx, client, root, now, maxScan)
	if err != nil {
		return Past{}, err
	}
	past := found.past
	current := now.current().Revision
	for _, revision := range found.revisions {
		// A change that stopped half-way leaves the current one there as well.
		if revision == current {
			continue
		}
		if len(past.Documents) == HistorySize {
			break
		}
		d, err := entry(ctx, client, root, scope, revision)
		if err != nil {
			return Past{}, err
		}
		past.Documents = append(past.Documents, d)
	}
	return past, nil
}

// GetRevision returns the document that scope has or had at revision, or the
// deletion at that revision. 0 is the newest one, deletions aside, that is no
// longer current. The error wraps ErrNotFound if the history does not have it.
func GetRevision(ctx context.Context, client *clientv3.Client, root, scope string, revision int64) (Document, error) {
	if err := CheckScope(scope); err != nil {
		return Document{}, err
	}
	if revision != 0 {
		now, err := read(ctx, client, root, scope)
		if err != nil {
			return Document{}, err
		}
		if d := now.current(); d.Revision == revision {
			return d, nil
		}
		d, err := entry(ctx, client, root, scope, revision)
		if err != nil || d.Data != nil || d.Deleted {
			return d, err
		}
	}
	past, err := History(ctx, client, root, scope)
	if err != nil {
		return Document{}, err
	}
	var there []string
	for _, d := range past.Documents {
		if revision == 0 && !d.Deleted {
			return d, nil
		}
		there = append(there, strconv.FormatInt(d.Revision, 10))
	}
	if len(there) == 0 {
		return Document{}, fmt.Errorf("%w: the history of %s is empty", ErrNotFound, scope)
	}
	if revision == 0 {
		return Document{}, fmt.Errorf("%w: the history of %s has deletions only (%s)", ErrNotFound, scope, strings.Join(there, ", "))
	}
	return Document{}, fmt.Errorf("%w: the history of %s does not have revision %d: want one of %s", ErrNotFound, scope, revision, strings.Join(there, ", "))
}

// entry reads one entry of the history.
func entry(ctx context.Context, client *clientv3.Client, root, scope string, revision int64) (Document, error) {
	d := Document{Scope: scope, Revision: revision}
	key := historyKey(root, scope, revision)
	r, err := client.Get(ctx, key)
	if err != nil {
		return d, unread(client, key, err)
	}
	if len(r.Kvs) > 0 {
		d.Data = r.Kvs[0].Value
	}
	key = earlierRecordKey(root, scope, revision)
	note, err := client.Get(ctx, key)
	if err != nil {
		return d, unread(client, key, err)
	}
	if len(note.Kvs) > 0 {
		d.note(note.Kvs[0].Value)
	}
	return d, nil
}

// remember puts what is about to be replaced into the history, unless it has
// been replaced already (ErrConflict), and drops what is too old there.
func remember(ctx context.Context, client *clientv3.Client, root string, now state) error {
	d := now.current()
	if d.Revision == 0 {
		return nil
	}
	var ops []clientv3.Op
	if now.document != nil {
		ops = append(ops, clientv3.OpPut(historyKey(root, d.Scope, d.Revision), string(d.Data)))
	}
	if now.recorded() {
		ops = append(ops, clientv3.OpPut(earlierRecordKey(root, d.Scope, d.Revision), string(now.record.Value)))
	}
	found, err := scan(ctx, client, root, now, maxTrimScan)
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(found.revisions, func(r int64) bool { return r == d.Revision })
	// Of part of the keys these are too old as well. What is left over goes
	// next time.
	for i := HistorySize - 1; i < len(kept) && len(ops) < maxDeletes; i++ {
		ops = append(ops, clientv3.OpDelete(historyKey(root, d.Scope, kept[i])),
			clientv3.OpDelete(earlierRecordKey(root, d.Scope, kept[i])))
	}
	r, err := client.Txn(ctx).If(now.unchanged(root)...).Then(ops...).Commit()
	if err != nil {
		return unwritten(client, historyKey(root, d.Scope, d.Revision), len(d.Data), err)
	}
	if !r.Succeeded {
		if now, err = read(ctx, client, root, d.Scope); err != nil {
			return err
		}
		return &ConflictError{Scope: d.Scope, Wanted: d.Revision, Found: now.current()}
	}
	return nil
}

// scanned is what lies below a scope's history.
type scanned struct {
	revisions []int64 // the newest first
	past      Past    // without documents
}

// scan lists the history's entries by their keys, of which it looks at most at
// limit below either prefix.
func scan(ctx context.Context, client *clientv3.Client, root string, now state, limit int) (scanned, error) {
	var s scanned
	seen := map[int64]bool{}
	for _, prefix := range []string{historyPrefix(root, now.scope), recordPrefix(root, now.scope)} {
		from, looked := prefix, 0
		for more := true; more; {
			if looked >= limit {
				s.past.Incomplete = true
				break
			}
			r, err := client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)),
				clientv3.WithKeysOnly(), clientv3.WithLimit(scanPage))
			if err != nil {
				return s, unread(client, prefix, err)
			}
			for _, kv := range r.Kvs {
				revision, ok := entryRevision(strings.TrimPrefix(string(kv.Key), prefix), now.revision)
				switch {
				case !ok:
					s.past.Foreign++
					s.past.ForeignKey = string(kv.Key)
				case !seen[revision]:
					seen[revision] = true
					s.revisions = append(s.revisions, revision)
				}
			}
			if looked += len(r.Kvs); len(r.Kvs) > 0 {
				from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
			}
			more = r.More && len(r.Kvs) > 0
		}
	}
	slices.SortFunc(s.revisions, func(a, b int64) int { return cmp.Compare(b, a) })
	return s, nil
}

// entryRevision reads the last part of an entry's key. What etcd has not yet
// reached, or writes another way, is none of ours.
func entryRevision(name string, newest int64) (int64, bool) {
	revision, err := strconv.ParseInt(name, 10, 64)
	return revision, err == nil && revision > 0 && revision <= newest && strconv.FormatInt(revision, 10) == name
}
