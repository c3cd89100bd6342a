package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/failpoint"
)

const (
	// AnyRevision as Change.Replaces replaces whatever there is.
	AnyRevision = -1

	// putAttempts bounds how often a change to AnyRevision is tried again when
	// others publish to the same scope at the same time.
	putAttempts = 10
)

// Errors of the publishing functions.
var (
	// ErrNotFound means that a scope has no such document.
	ErrNotFound = errors.New("no such configuration document")
	// ErrInvalid means that a document was not published because it is no
	// mapping in YAML or JSON within the limits.
	ErrInvalid = errors.New("not a configuration document")
	// ErrConflict means that others have published to the same scope: a
	// *ConflictError where it is known who.
	ErrConflict = errors.New("published by others at the same time")
)

// ConflictError says what was found in the place of the revision that a
// change was to replace. It wraps ErrConflict.
type ConflictError struct {
	Scope string
	// Wanted is Change.Replaces: 0 = there was to be no document.
	Wanted int64
	// Found is the current document, without Data; its Revision is 0 if there
	// is none.
	Found Document
}

// Error implements error.
func (e *ConflictError) Error() string {
	found, wanted := "no document", "no document"
	if e.Wanted > 0 {
		wanted = fmt.Sprintf("revision %d", e.Wanted)
	}
	switch {
	case e.Found.Deleted:
		found = "a deletion" + e.Found.byWhom()
	case e.Found.Revision > 0:
		found = fmt.Sprintf("revision %d%s", e.Found.Revision, e.Found.byWhom())
	}
	return fmt.Sprintf("config %s: want to replace %s, found %s: look at what changed, then try again", e.Scope, wanted, found)
}

// Unwrap makes it an ErrConflict.
func (e *ConflictError) Unwrap() error { return ErrConflict }

// Change says what is to happen to the document of a scope, and why.
type Change struct {
	// Scope is global, group/<group> or agent/<agent-id>.
	Scope string
	// Replaces is the revision of the document that the change was made to:
	// 0 = there is none yet. AnyRevision replaces whatever there is. If it is
	// another one that is there, nothing happens, and the error is a
	// *ConflictError.
	Replaces int64
	// By and Message say who asks and why, for the history: at most 256 and
	// 512 bytes of UTF-8 without control characters. They may be empty.
	By, Message string

	restores int64
}

// Publish makes document, YAML or JSON, that of c.Scope and returns its
// revision. What it replaces goes to the history, of which the newest
// HistorySize are kept.
//
// Only the form is checked here, and that nothing in it stands for a value that
// was not shown (ErrInvalid): the agents know the type. With
// an error that is neither ErrInvalid nor ErrConflict, such as a timeout, it
// may have been published all the same.
func Publish(ctx context.Context, client *clientv3.Client, root string, document []byte, c Change) (revision int64, err error) {
	if err := c.checkDocument(document); err != nil {
		return 0, err
	}
	return c.apply(ctx, client, root, func(key string) clientv3.Op { return clientv3.OpPut(key, string(document)) })
}

// Put is Publish over whatever there is, by nobody.
func Put(ctx context.Context, client *clientv3.Client, root, scope string, document []byte) (revision int64, err error) {
	return Publish(ctx, client, root, document, Change{Scope: scope, Replaces: AnyRevision})
}

// Delete takes the document of c.Scope away: the layers below apply again.
// The history keeps it, and then the deletion. It returns the revision of the
// deletion; the error wraps ErrNotFound if there is nothing to delete.
func Delete(ctx context.Context, client *clientv3.Client, root string, c Change) (revision int64, err error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	return c.apply(ctx, client, root, func(key string) clientv3.Op { return clientv3.OpDelete(key) })
}

// Rollback publishes the document that c.Scope had at revision to once more,
// as a new revision, which it returns. to = 0 is the one before the current
// document. The error wraps ErrNotFound if the history does not have it.
func Rollback(ctx context.Context, client *clientv3.Client, root string, to int64, c Change) (revision int64, err error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	earlier, err := GetRevision(ctx, client, root, c.Scope, to)
	if err != nil {
		return 0, err
	}
	if earlier.Deleted {
		return 0, fmt.Errorf("config %s: revision %d is a deletion: delete the document, or name another revision", c.Scope, to)
	}
	if c.Message == "" {
		c.Message = earlier.Message
	}
	c.restores = earlier.Revision
	return Publish(ctx, client, root, earlier.Data, c)
}

// checkDocument is check, and that document may be that of the scope.
func (c Change) checkDocument(document []byte) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := CheckDocument(document); err != nil {
		return fmt.Errorf("%s: %w", c.Scope, err)
	}
	return nil
}

// CheckDocument reports what keeps document from being published, whatever the
// scope. The error wraps ErrInvalid.
func CheckDocument(document []byte) error {
	t, err := parse(document, DefaultMaxBytes)
	if err == nil {
		err = t.notShown()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func (c Change) check() error {
	if err := CheckScope(c.Scope); err != nil {
		return err
	}
	if c.Replaces < AnyRevision {
		return fmt.Errorf("config %s: want a revision to replace, 0 for none or AnyRevision, found %d", c.Scope, c.Replaces)
	}
	if err := legible("By", c.By, maxBy); err != nil {
		return fmt.Errorf("config %s: %w", c.Scope, err)
	}
	if err := legible("the message", c.Message, maxMessage); err != nil {
		return fmt.Errorf("config %s: %w", c.Scope, err)
	}
	return nil
}

// apply performs op on the document's key: once where the change names the
// revision that it replaces, else until nobody else is faster.
func (c Change) apply(ctx context.Context, client *clientv3.Client, root string, op func(key string) clientv3.Op) (int64, error) {
	var retry backoff.Backoff
	for range putAttempts {
		revision, err := c.once(ctx, client, root, op)
		if c.Replaces != AnyRevision || !errors.Is(err, ErrConflict) {
			return revision, err
		}
		if err := retry.Wait(ctx); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("config %s: %w, %d times in a row: try again", c.Scope, ErrConflict, putAttempts)
}

// once is two transactions, since two large documents exceed what etcd takes
// at once: what is there goes to the history, then the change is made. Both
// compare that it is still there. Stopping in between leaves an entry that is
// the current document, which History passes over and the next change writes
// again.
func (c Change) once(ctx context.Context, client *clientv3.Client, root string, op func(key string) clientv3.Op) (int64, error) {
	now, err := read(ctx, client, root, c.Scope)
	if err != nil {
		return 0, err
	}
	change := op(documentKey(root, c.Scope))
	p, err := c.prepare(ctx, client, root, now, change)
	if err != nil {
		return 0, err
	}
	r, err := client.Txn(ctx).If(p.If...).Then(p.Then...).Commit()
	if err != nil {
		return 0, unwritten(client, documentKey(root, c.Scope), len(change.ValueBytes()), err)
	}
	if !r.Succeeded {
		if now, err = read(ctx, client, root, c.Scope); err != nil {
			return 0, fmt.Errorf("config %s: %w", c.Scope, ErrConflict)
		}
		return 0, now.conflict(c)
	}
	return r.Header.Revision, nil
}

// Prepared is the last transaction of a change, for whoever has more to write in
// it: if what it compares is not so, others have published meanwhile.
type Prepared struct {
	If   []clientv3.Cmp
	Then []clientv3.Op
}

// Prepare is Publish, or Delete if document is nil, but for its last transaction,
// which it returns. What is so already takes nothing.
func Prepare(ctx context.Context, client *clientv3.Client, root string, document []byte, c Change) (Prepared, error) {
	err := c.check()
	change := clientv3.OpDelete(documentKey(root, c.Scope))
	if document != nil {
		err = c.checkDocument(document)
		change = clientv3.OpPut(documentKey(root, c.Scope), string(document))
	}
	if err != nil {
		return Prepared{}, err
	}
	now, err := read(ctx, client, root, c.Scope)
	if err != nil {
		return Prepared{}, err
	}
	if there := now.document != nil; there == (document != nil) && (!there || bytes.Equal(now.document.Value, document)) {
		return Prepared{}, nil
	}
	return c.prepare(ctx, client, root, now, change)
}

// prepare puts what is there into the history, and returns what makes change.
func (c Change) prepare(ctx context.Context, client *clientv3.Client, root string, now state, change clientv3.Op) (Prepared, error) {
	if c.Replaces != AnyRevision && c.Replaces != now.documentRevision() {
		return Prepared{}, now.conflict(c)
	}
	if change.IsDelete() && now.document == nil {
		return Prepared{}, fmt.Errorf("%w: %s is not in etcd", ErrNotFound, documentKey(root, c.Scope))
	}
	if err := remember(ctx, client, root, now); err != nil {
		return Prepared{}, err
	}
	if err := failpoint.Hit("config-remembered"); err != nil {
		return Prepared{}, err
	}
	note, err := record{
		Schema: recordSchema, By: c.By, At: time.Now().UTC(), Message: c.Message,
		Restores: c.restores, Deleted: change.IsDelete(),
	}.encode()
	return Prepared{now.unchanged(root), []clientv3.Op{change, clientv3.OpPut(recordKey(root, c.Scope), note)}}, err
}

// unwritten says why a document was not taken.
func unwritten(client *clientv3.Client, key string, size int, err error) error {
	if errors.Is(err, rpctypes.ErrRequestTooLarge) || errors.Is(err, rpctypes.ErrTooManyOps) {
		return fmt.Errorf("write %s to etcd at %s: its %d bytes are more than this etcd takes (--max-request-bytes there, 1.5 MiB by default): %w",
			key, etcdkv.Endpoints(client), size, err)
	}
	return fmt.Errorf("write %s to etcd at %s: %w", key, etcdkv.Endpoints(client), err)
}
