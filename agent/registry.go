package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// ErrDuplicate is wrapped where another live agent has the same id.
var ErrDuplicate = errors.New("agent id is taken")

// errFenced tells that another process has written this agent's
// registration since: a successor, or another agent.
var errFenced = errors.New("registration was written by another process")

// writeTimeout bounds one write to etcd.
const writeTimeout = 5 * time.Second

// registry writes the keys of one agent. Each write is bound to the lease,
// and to the revision of the registration that this process wrote last: a
// process that has been superseded, or slept past its lease, cannot write.
type registry struct {
	client   *clientv3.Client
	keys     keys
	id       string
	instance *instance

	lease atomic.Int64 // that the registration hangs on; 0 before the first

	mu       sync.Mutex
	revision int64 // of the registration as this process wrote it
	plugins  map[string]bool
}

// register writes the registration under lease, unless a live agent that is
// another one holds the id.
func (r *registry) register(ctx context.Context, lease int64, reg Registration) error {
	if lease == 0 {
		// etcd would take it, and keep the agent in the registry for ever.
		return errors.New("registration: no lease has been granted yet")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	key := r.keys.registry(r.id)
	found, err := r.client.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("registration: etcd at %s: %w", etcdkv.Endpoints(r.client), err)
	}
	var revision int64
	if len(found.Kvs) > 0 {
		revision = found.Kvs[0].ModRevision
		if err := r.mine(ctx, key, found.Kvs[0].Value, found.Kvs[0].Lease); err != nil {
			return err
		}
	}
	if err := r.instance.register(); err != nil {
		return fatal{err}
	}
	value, err := json.Marshal(reg)
	if err != nil {
		return err
	}
	res, err := r.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, string(value), clientv3.WithLease(clientv3.LeaseID(lease)))).
		Commit()
	if err != nil {
		return fmt.Errorf("registration: etcd at %s: %w", etcdkv.Endpoints(r.client), err)
	}
	if !res.Succeeded {
		return fmt.Errorf("registration of %s: %w", r.id, errFenced)
	}
	r.revision, r.plugins = res.Header.Revision, map[string]bool{}
	r.lease.Store(lease)
	return nil
}

// fatal is an error that no retry mends; its text stays that of the cause.
type fatal struct{ error }

func (f fatal) Unwrap() []error { return []error{f.error, etcdkv.ErrFatal} }

// mine refuses a registration of another agent that is alive.
func (r *registry) mine(ctx context.Context, key string, value []byte, lease int64) error {
	var other Registration
	if err := decode(key, value, &other); err != nil {
		return fatal{err}
	}
	if other.Instance == r.instance.ID {
		return nil
	}
	rest := "until its lease ends"
	if ttl, err := r.client.TimeToLive(ctx, clientv3.LeaseID(lease)); err == nil && ttl.TTL > 0 {
		rest = fmt.Sprintf("%d s until its lease ends", ttl.TTL)
	}
	return fatal{fmt.Errorf("%w: agent id %s is registered by another agent on host %s with pid %d since %s; give this one its own id, or, if that one is dead, wait %s",
		ErrDuplicate, r.id, other.Host, other.PID, other.Started.Format(time.RFC3339), rest)}
}

// write makes reg, status and plugins the values in etcd.
func (r *registry) write(ctx context.Context, reg Registration, status Status, plugins []PluginRecord) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	lease := clientv3.WithLease(clientv3.LeaseID(r.lease.Load()))
	var ops []clientv3.Op
	put := func(key string, value any) error {
		data, err := json.Marshal(value)
		ops = append(ops, clientv3.OpPut(key, string(data), lease))
		return err
	}
	key := r.keys.registry(r.id)
	err := errors.Join(put(key, reg), put(r.keys.status(r.id), status))
	present := map[string]bool{}
	for _, p := range plugins {
		err = errors.Join(err, put(r.keys.plugin(r.id, p.Name), p))
		present[p.Name] = true
	}
	for name := range r.plugins {
		if !present[name] {
			ops = append(ops, clientv3.OpDelete(r.keys.plugin(r.id, name)))
		}
	}
	if err != nil {
		return err
	}
	res, err := r.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", r.revision)).
		Then(ops...).Commit()
	if err != nil {
		return fmt.Errorf("status: etcd at %s: %w", etcdkv.Endpoints(r.client), err)
	}
	if !res.Succeeded {
		return errFenced
	}
	r.revision, r.plugins = res.Header.Revision, present
	return nil
}

// leased returns the lease of the registration without waiting for a write.
func (r *registry) leased() int64 { return r.lease.Load() }
