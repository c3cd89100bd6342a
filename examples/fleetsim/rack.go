package fleetsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

// Rack is agents that share a connection and a lease, and with them the fate of
// the network between them and etcd.
type Rack struct {
	client  *clientv3.Client
	root    string
	ttl     time.Duration
	session *etcdkv.Session
	graves  sync.WaitGroup

	mu     sync.Mutex
	lease  int64
	agents map[string]*Agent // that are up
}

// writeTimeout bounds one write.
const writeTimeout = 5 * time.Second

// NewRack starts nothing. The client is used, never closed.
func NewRack(client *clientv3.Client, root string, ttl, beat time.Duration) (*Rack, error) {
	r := &Rack{client: client, root: etcdkv.CleanRoot(root), ttl: ttl, agents: map[string]*Agent{}}
	var err error
	r.session, err = etcdkv.NewSession(etcdkv.SessionConfig{Client: client, TTL: ttl, Interval: beat, OnLease: r.onLease})
	return r, err
}

// Run keeps the lease until ctx ends.
func (r *Rack) Run(ctx context.Context) error {
	defer r.graves.Wait()
	return r.session.Run(ctx)
}

// onLease has all agents register under another lease.
func (r *Rack) onLease(_ context.Context, lease int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lease = lease
	for _, a := range r.agents {
		a.touch()
	}
	return nil
}

func (r *Rack) leased() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lease
}

// add has an agent registered now, or as soon as there is a lease.
func (r *Rack) add(a *Agent) {
	r.mu.Lock()
	r.agents[a.id] = a
	r.mu.Unlock()
	a.touch()
}

func (r *Rack) remove(a *Agent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.agents, a.id)
}

func (r *Rack) registryKey(id string) string { return r.root + "registry/" + id }
func (r *Rack) statusKey(id string) string   { return r.root + "status/" + id }

// put writes what an agent has in etcd, in one transaction, and returns how its
// registration stands then. As agents do, it leaves a registration alone that is as
// was says.
func (r *Rack) put(ctx context.Context, lease int64, id string, was registered, reg agent.Registration, status agent.Status) (registered, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	first, err1 := json.Marshal(reg)
	second, err2 := json.Marshal(status)
	if err := errors.Join(err1, err2); err != nil {
		return registered{}, err
	}
	revision := int64(-1) // which none has
	if was.lease == lease && was.value == string(first) {
		revision = was.revision
	}
	on := clientv3.WithLease(clientv3.LeaseID(lease))
	tell := clientv3.OpPut(r.statusKey(id), string(second), on)
	res, err := r.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(r.registryKey(id)), "=", revision)).Then(tell).
		Else(tell, clientv3.OpPut(r.registryKey(id), string(first), on), clientv3.OpGet(r.registryKey(id), clientv3.WithKeysOnly())).Commit()
	switch {
	case err != nil:
		return registered{}, fmt.Errorf("agent %s: %w", id, err)
	case res.Succeeded:
		return was, nil
	}
	kv := res.Responses[2].GetResponseRange().Kvs[0]
	return registered{lease: lease, joined: kv.CreateRevision, revision: kv.ModRevision, value: string(first)}, nil
}

// bury takes a dead agent's keys away once its lease would have ended, unless it
// has come back.
func (r *Rack) bury(ctx context.Context, undertaker *clientv3.Client, id string, revision int64) {
	r.graves.Go(func() {
		if sleep.For(ctx, r.ttl) != nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		// Where this fails, the lease takes them with it.
		_, _ = undertaker.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(r.registryKey(id)), "=", revision)).
			Then(clientv3.OpDelete(r.registryKey(id)), clientv3.OpDelete(r.statusKey(id))).Commit()
	})
}

// Break ends the lease before its time, as an etcd does that has lost it: all
// agents of the rack are gone from the registry until they have another.
func (r *Rack) Break(ctx context.Context, by *clientv3.Client) error {
	lease := r.leased()
	if lease == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := by.Revoke(ctx, clientv3.LeaseID(lease))
	return err
}
