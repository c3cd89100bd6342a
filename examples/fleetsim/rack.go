package fleetsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// Rack is agents that share a connection and a lease, and with them the fate of
// the network between them and etcd.
type Rack struct {
	client  *clientv3.Client
	root    string
	ttl     time.Duration
	session *etcdkv.Session

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
	r.session, err = etcdkv.NewSession(etcdkv.SessionConfig{Client: client, TTL: ttl, Interval: beat, OnLease: r.leased})
	return r, err
}

// Run keeps the lease until ctx ends.
func (r *Rack) Run(ctx context.Context) error { return r.session.Run(ctx) }

// Fresh reports whether the lease cannot have ended: by this side's clock, from
// when the last renewal that was answered had been sent.
func (r *Rack) Fresh() bool {
	at, latency, _ := r.session.LastBeat()
	return !at.IsZero() && time.Since(at.Add(-latency)) < r.ttl
}

// leased registers all agents under a lease.
func (r *Rack) leased(ctx context.Context, lease int64) error {
	r.mu.Lock()
	r.lease = lease
	up := make([]*Agent, 0, len(r.agents))
	for _, a := range r.agents {
		up = append(up, a)
	}
	r.mu.Unlock()
	for _, a := range up {
		if err := a.register(ctx, lease); err != nil {
			return err
		}
	}
	return nil
}

// add has an agent registered now, or as soon as there is a lease.
func (r *Rack) add(ctx context.Context, a *Agent) error {
	r.mu.Lock()
	r.agents[a.id] = a
	lease := r.lease
	r.mu.Unlock()
	if lease == 0 {
		return nil
	}
	return a.register(ctx, lease)
}

func (r *Rack) remove(a *Agent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.agents, a.id)
}

// put writes values under the lease, in one transaction, and returns the create
// revision of the first.
func (r *Rack) put(ctx context.Context, lease int64, values ...any) (created int64, err error) {
	if lease == 0 {
		return 0, errors.New("there is no lease yet")
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var ops []clientv3.Op
	for i := 0; i < len(values); i += 2 {
		data, err := json.Marshal(values[i+1])
		if err != nil {
			return 0, err
		}
		ops = append(ops, clientv3.OpPut(values[i].(string), string(data), clientv3.WithLease(clientv3.LeaseID(lease))))
	}
	ops = append(ops, clientv3.OpGet(values[0].(string), clientv3.WithKeysOnly()))
	res, err := r.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return 0, fmt.Errorf("%v: %w", values[0], err)
	}
	return res.Responses[len(ops)-1].GetResponseRange().Kvs[0].CreateRevision, nil
}
