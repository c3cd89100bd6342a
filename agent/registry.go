package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// errFenced tells that another process has written this agent's
// registration since: a successor, or another agent.
var errFenced = errors.New("registration was written by another process")

const (
	// writeTimeout bounds one write to etcd.
	writeTimeout = 5 * time.Second
	// maxWrites is how many keys one transaction writes; etcd's default limit
	// is 128.
	maxWrites = 100
)

// registry writes the keys of one agent. Each write is bound to the lease,
// and to the revision of the registration that this process wrote last: a
// process that has been superseded, or slept past its lease, cannot write.
type registry struct {
	client   *clientv3.Client
	keys     keys
	id       string
	instance *instance
	home     string

	lease     atomic.Int64 // that the registration hangs on; 0 before the first
	contested atomic.Bool  // it is being watched whether another lives
	count     atomic.Int64 // registrations written

	claiming sync.Mutex // held while the registration is claimed

	mu       sync.Mutex
	revision int64             // of the registration as this process wrote it
	held     map[string]held   // what this process has written, by key
	tried    map[string]string // values of which etcd did not say whether it took them
	shown    map[string]int64  // mod revisions of the newest view
	hurt     map[string]int64  // what was damaged in it, with the revision held then
	facts    string            // of the status as it was written last; "" = of none

	echo   echoes
	member membership
}

// echoes are what has come back on the watch of what was written as the status.
// It has a lock of its own: a heartbeat that asks must not wait for a write,
// which an etcd that does not answer holds up for writeTimeout.
type echoes struct {
	mu             sync.Mutex
	written, shown int64 // mod revisions
	wrote          time.Time
}

func (e *echoes) write(revision int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.written, e.wrote = revision, time.Now()
}

func (e *echoes) show(revision int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shown = revision
}

// behind returns for how long the newest write has not come back; 0 if it has.
func (e *echoes) behind(now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shown >= e.written {
		return 0
	}
	return now.Sub(e.wrote)
}

// held is a value in etcd.
type held struct {
	value    string
	revision int64
}

// register writes the registration under lease, unless a live agent that is
// another one holds the id, and moves what else this process has written to
// that lease.
func (r *registry) register(ctx context.Context, lease int64, reg Registration) error {
	r.claiming.Lock()
	defer r.claiming.Unlock()
	return r.enter(ctx, lease, reg)
}

// again is register under the lease that the registration hangs on, or under
// lease where it hangs on none yet. While leases are exchanged, the session's
// is the one that is about to be revoked.
func (r *registry) again(ctx context.Context, lease int64, reg Registration) error {
	r.claiming.Lock()
	defer r.claiming.Unlock()
	if now := r.leased(); now != 0 {
		lease = now
	}
	return r.enter(ctx, lease, reg)
}

// enter is register; r.claiming is held.
func (r *registry) enter(ctx context.Context, lease int64, reg Registration) error {
	if lease == 0 {
		// etcd would take it, and keep the agent in the registry for ever.
		return errors.New("registration: no lease has been granted yet")
	}
	value, err := json.Marshal(reg)
	if err != nil {
		return err
	}
	found, plugins, err := r.read(ctx)
	if err != nil {
		return err
	}
	if err := r.claim(ctx, found, lease); err != nil {
		return err
	}
	if err := r.instance.register(); err != nil {
		return fatal{err}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := r.keys.registry(r.id)
	ops := []clientv3.Op{clientv3.OpPut(key, string(value), clientv3.WithLease(clientv3.LeaseID(lease)))}
	for _, k := range slices.Sorted(maps.Keys(r.held)) {
		if v := r.held[k]; k != key && v.value != "" {
			ops = append(ops, clientv3.OpPut(k, v.value, clientv3.WithLease(clientv3.LeaseID(lease))))
		}
	}
	if found, err = r.leave(ctx, found, reg); err != nil {
		return err
	}
	was := r.revision
	r.revision = found.GetModRevision() // 0 for none
	if err := r.commit(ctx, "registration", ops); err != nil {
		if r.revision == found.GetModRevision() {
			r.revision = was
		}
		return err
	}
	r.member.wrote(found.GetCreateRevision(), r.revision)
	for _, k := range append(plugins, r.keys.status(r.id)) {
		// Those of a former process, or of somebody else: the next write replaces
		// the status, and deletes what has no plugin.
		if _, known := r.held[k]; !known {
			r.held[k] = held{}
		}
	}
	r.count.Add(1)
	r.lease.Store(lease)
	return nil
}

// read returns the registration that is there, nil for none, and the keys of
// plugins.
func (r *registry) read(ctx context.Context) (*mvccpb.KeyValue, []string, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	there, err := r.client.Get(ctx, r.keys.plugin(r.id, ""), clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(maxStrays))
	if err != nil {
		return nil, nil, r.explain("registration", err)
	}
	var plugins []string
	for _, kv := range there.Kvs {
		plugins = append(plugins, string(kv.Key))
	}
	found, err := r.client.Get(ctx, r.keys.registry(r.id))
	if err != nil {
		return nil, nil, r.explain("registration", err)
	}
	if len(found.Kvs) == 0 {
		return nil, plugins, nil
	}
	return found.Kvs[0], plugins, nil
}

// maxStrays bounds how many plugin keys that are not this process's are looked at: a
// prefix that somebody has filled must not fill this process.
const maxStrays = 1000

// commit performs ops, some at a time, each time compared with the registration
// as this process wrote it. If the registration is among them, it is the first.
// r.mu is held.
func (r *registry) commit(ctx context.Context, what string, ops []clientv3.Op) error {
	if r.held == nil {
		r.held = map[string]held{}
	}
	key := r.keys.registry(r.id)
	for part := range slices.Chunk(ops, maxWrites) {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		res, err := r.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", r.revision)).
			Then(part...).Commit()
		cancel()
		if err != nil {
			r.doubt(part)
			return r.explain(what, err)
		}
		if !res.Succeeded {
			return fmt.Errorf("%s of %s: %w", what, r.id, errFenced)
		}
		for _, op := range part {
			k := string(op.KeyBytes())
			if op.IsDelete() {
				delete(r.held, k)
				delete(r.tried, k)
				continue
			}
			r.hold(k, string(op.ValueBytes()), res.Header.Revision)
		}
	}
	return nil
}

// hold notes what this process has in etcd.
func (r *registry) hold(key, value string, revision int64) {
	r.held[key] = held{value, revision}
	delete(r.tried, key)
	switch key {
	case r.keys.registry(r.id):
		r.revision = revision
	case r.keys.status(r.id):
		r.echo.write(revision)
	}
}

// doubt notes what etcd may have done without its answer having arrived.
func (r *registry) doubt(ops []clientv3.Op) {
	if r.tried == nil {
		r.tried = map[string]string{}
	}
	for _, op := range ops {
		if op.IsPut() {
			r.tried[string(op.KeyBytes())] = string(op.ValueBytes())
		}
	}
}

// recognise takes what v shows of a write that was not answered for written. One
// that moved keys to another lease is tried again by whoever moves them.
func (r *registry) recognise(v etcdkv.View) {
	for k, value := range r.tried {
		if now, there := v.Values[k]; there && string(now.Data) == value && now.Lease == r.leased() {
			r.hold(k, value, now.ModRevision)
		}
	}
}

func (r *registry) explain(what string, err error) error {
	return fmt.Errorf("%s: etcd at %s: %w", what, etcdkv.Endpoints(r.client), err)
}

// fatal is an error that no retry mends; its text stays that of the cause.
type fatal struct{ error }

func (f fatal) Unwrap() []error { return []error{f.error, etcdkv.ErrFatal} }

// write makes reg, status and plugins the values in etcd, and reports whether
// the status was written. What is there already is not written again, except
// for the status at its beat: one of which nothing but figures has changed waits
// for that.
func (r *registry) write(ctx context.Context, reg Registration, status Status, plugins []PluginRecord, beat bool) (told bool, err error) {
	facts, err := status.facts()
	if err != nil {
		return false, err
	}
	value, err := status.value()
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	lease := clientv3.WithLease(clientv3.LeaseID(r.lease.Load()))
	var ops []clientv3.Op
	var failed error
	put := func(key string, value any) {
		data, err := json.Marshal(value)
		if failed = errors.Join(failed, err); r.held[key].value != string(data) {
			ops = append(ops, clientv3.OpPut(key, string(data), lease))
		}
	}
	put(r.keys.registry(r.id), reg)
	if told = beat || facts != r.facts || r.held[r.keys.status(r.id)].value == ""; told {
		ops = append(ops, clientv3.OpPut(r.keys.status(r.id), string(value), lease))
	}
	present := map[string]bool{}
	for _, p := range plugins {
		key := r.keys.plugin(r.id, p.Name)
		put(key, p)
		present[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(r.held)) {
		if strings.HasPrefix(key, r.keys.plugin(r.id, "")) && !present[key] {
			ops = append(ops, clientv3.OpDelete(key))
		}
	}
	if failed != nil {
		return false, failed
	}
	if err := r.commit(ctx, "status", ops); err != nil {
		return false, err
	}
	if told {
		r.facts = facts
	}
	return told, nil
}

// acknowledge deletes key if its mod revision is revision still, and the
// registration this process's.
func (r *registry) acknowledge(ctx context.Context, key string, revision int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	res, err := r.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(r.keys.registry(r.id)), "=", r.revision),
			clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpDelete(key)).
		Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).Commit()
	switch {
	case err != nil:
		return r.explain("acknowledgement", err)
	case res.Succeeded:
		return nil
	}
	for _, kv := range res.Responses[0].GetResponseRange().GetKvs() {
		if kv.ModRevision == revision {
			return errFenced
		}
	}
	return nil // it was taken back or replaced
}

// leased returns the lease of the registration without waiting for a write.
func (r *registry) leased() int64 { return r.lease.Load() }

// damage compares a view of this agent's keys with what this process wrote,
// and returns the keys that somebody else deleted, changed or added, or that
// went back to an earlier value with all of etcd. Each key is followed by
// itself, and a view may come before what was written last: what is damaged is
// to be looked at again a moment later.
func (r *registry) damage(v etcdkv.View) []string {
	// Before the lock, which a write holds that etcd does not answer: that is no
	// fault of the watch.
	r.echo.show(v.Values[r.keys.status(r.id)].ModRevision)
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.shown
	r.shown = make(map[string]int64, len(v.Values))
	for k, now := range v.Values {
		r.shown[k] = now.ModRevision
	}
	if r.revision == 0 {
		return nil
	}
	r.recognise(v)
	known := r.hurt
	r.hurt = map[string]int64{}
	for k, h := range r.held {
		now, there := r.shown[k]
		switch {
		case h.value == "", now == h.revision:
		case known[k] == h.revision: // what another key brings about does not mend it
			r.hurt[k] = h.revision
		case there && now < h.revision && now >= before[k]: // the write is on its way
		case !there && before[k] == 0 && v.Revision < h.revision: // likewise
		default:
			r.hurt[k] = h.revision
		}
	}
	for k := range r.shown {
		if _, ok := r.held[k]; !ok {
			r.hurt[k] = 0 // registering again has the next write delete it
		}
	}
	return slices.Sorted(maps.Keys(r.hurt))
}
