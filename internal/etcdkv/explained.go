package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// explainedKV bounds each call, and says more than "context deadline
// exceeded" and "permission denied" about those that fail.
type explainedKV struct {
	clientv3.KV
	link *link
}

// Put, Get, Delete, Do and Txn implement clientv3.KV.
func (k *explainedKV) Put(ctx context.Context, key, val string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	ctx, cancel := k.link.bound(ctx)
	defer cancel()
	r, err := k.KV.Put(ctx, key, val, opts...)
	return r, k.link.explainKeys(err, key)
}

func (k *explainedKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := k.link.bound(ctx)
	defer cancel()
	r, err := k.KV.Get(ctx, key, opts...)
	return r, k.link.explainKeys(err, key)
}

func (k *explainedKV) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	ctx, cancel := k.link.bound(ctx)
	defer cancel()
	r, err := k.KV.Delete(ctx, key, opts...)
	return r, k.link.explainKeys(err, key)
}

func (k *explainedKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	ctx, cancel := k.link.bound(ctx)
	defer cancel()
	r, err := k.KV.Do(ctx, op)
	return r, k.link.explainKeys(err, string(op.KeyBytes()))
}

func (k *explainedKV) Txn(ctx context.Context) clientv3.Txn {
	return &explainedTxn{kv: k, ctx: ctx}
}

// explainedTxn holds what it is given until Commit, when its time begins.
type explainedTxn struct {
	kv              *explainedKV
	ctx             context.Context
	compare         []clientv3.Cmp
	then, otherwise []clientv3.Op
}

// If, Then, Else and Commit implement clientv3.Txn.
func (t *explainedTxn) If(cs ...clientv3.Cmp) clientv3.Txn {
	t.compare = append(t.compare, cs...)
	return t
}

func (t *explainedTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.then = append(t.then, ops...)
	return t
}

func (t *explainedTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	t.otherwise = append(t.otherwise, ops...)
	return t
}

func (t *explainedTxn) Commit() (*clientv3.TxnResponse, error) {
	ctx, cancel := t.kv.link.bound(t.ctx)
	defer cancel()
	r, err := t.kv.KV.Txn(ctx).If(t.compare...).Then(t.then...).Else(t.otherwise...).Commit()
	if !errors.Is(err, rpctypes.ErrPermissionDenied) {
		return r, t.kv.link.explain(err)
	}
	var keys []string
	for _, c := range t.compare {
		keys = append(keys, string(c.KeyBytes()))
	}
	for _, op := range append(t.then, t.otherwise...) {
		keys = append(keys, string(op.KeyBytes()))
	}
	return r, t.kv.link.explainKeys(err, keys...)
}

// explainKeys is explain for a call that was about keys.
func (l *link) explainKeys(err error, keys ...string) error {
	if !errors.Is(err, rpctypes.ErrPermissionDenied) {
		return l.explain(err)
	}
	if len(keys) > 3 {
		keys = append(keys[:3:3], "…")
	}
	who := "this client"
	if l.user != "" {
		who = "the user " + l.user
	}
	return fmt.Errorf("%w: %s may not do that with %s: be a user whose role may, or grant that to its role (agentd etcd bootstrap puts roles right)", err, who, strings.Join(keys, ", "))
}

// explainedLease is the same for leases. Its Close also ends and joins what
// Dial started.
type explainedLease struct {
	clientv3.Lease
	link       *link
	certs      *certificates // nil = there are no files to follow
	background sync.WaitGroup
	stop       context.CancelFunc
}

// Grant, Revoke, TimeToLive and Close implement clientv3.Lease.
func (e *explainedLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	ctx, cancel := e.link.bound(ctx)
	defer cancel()
	r, err := e.Lease.Grant(ctx, ttl)
	return r, e.link.explain(err)
}

func (e *explainedLease) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	ctx, cancel := e.link.bound(ctx)
	defer cancel()
	r, err := e.Lease.Revoke(ctx, id)
	return r, e.link.explain(err)
}

func (e *explainedLease) TimeToLive(ctx context.Context, id clientv3.LeaseID, opts ...clientv3.LeaseOption) (*clientv3.LeaseTimeToLiveResponse, error) {
	ctx, cancel := e.link.bound(ctx)
	defer cancel()
	r, err := e.Lease.TimeToLive(ctx, id, opts...)
	return r, e.link.explain(err)
}

func (e *explainedLease) Close() error {
	if e.certs != nil {
		e.stop()
		e.background.Wait()
	}
	return e.Lease.Close()
}
