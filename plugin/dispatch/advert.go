package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/plugin"
)

// advertEvery is how often plugins and lease are looked at.
const advertEvery = time.Second

// advert keeps the worker's key. Claims compare its revision: they are this
// process's only for as long as the key is, so that what a process before this
// one has sent to etcd and nobody has answered cannot claim anything later.
type advert struct {
	worker *Worker
	forced bool // it was written over whatever was there; succeed's alone

	mu       sync.Mutex
	value    string           // as it was written last
	lease    clientv3.LeaseID // on which
	revision int64            // of the key as this process wrote it; 0 = it has not
	found    int64            // of the key as it is, as far as is known
	failing  bool
}

// errNoLease: the agent has no lease now.
var errNoLease = errors.New("the agent has no lease in etcd yet")

// keep writes the key whenever it is out of date, until the worker ends. A
// process that ends still says what its agent can do: others decide by it.
func (a *advert) keep(ctx context.Context, ending <-chan struct{}) {
	retry := backoff.Backoff{Max: 5 * time.Second}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ending:
			return
		case <-a.worker.changed:
		case <-timer.C:
		}
		wait := backoff.Jitter(advertEvery, 0.2)
		switch err := a.write(ctx, false); {
		case err == nil:
			retry.Reset()
			a.failing = false
		case errors.Is(err, errNoLease), errors.Is(err, rpctypes.ErrLeaseNotFound):
			wait = advertEvery / 20 // the agent is about to have one
		default:
			wait = retry.Next()
			if !a.failing && !errors.Is(err, errRefused) && ctx.Err() == nil {
				a.failing = true
				a.worker.cfg.Logger.Warn("the worker cannot tell that it takes tasks", "error", err)
			}
		}
		timer.Reset(wait)
	}
}

// write writes the key if it is out of date. Where another process of the agent
// has written it, that one goes before, unless by force.
func (a *advert) write(ctx context.Context, force bool) error {
	w := a.worker
	lease := w.cfg.Lease()
	if lease == 0 {
		return errNoLease
	}
	value, err := encode(workerValue{schema, w.info()})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	theirs, missing := w.advertised()
	if first := a.revision == 0; !force && !first && !missing && (theirs || value == a.value && lease == a.lease) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := w.keys.worker(w.cfg.AgentID)
	r, err := w.cfg.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", a.found)).
		Then(clientv3.OpPut(key, value, clientv3.WithLease(lease))).
		Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).Commit()
	if err != nil {
		return err
	}
	if !r.Succeeded {
		a.found = 0
		for _, kv := range r.Responses[0].GetResponseRange().GetKvs() {
			a.found = kv.ModRevision
		}
		ring(w.changed)
		return errRefused
	}
	a.value, a.lease, a.revision, a.found = value, lease, r.Header.Revision, r.Header.Revision
	w.wrote(a.revision)
	return nil
}

// advertised tells whether the key is another process's, and whether there is
// none.
func (w *Worker) advertised() (theirs, missing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.theirs, w.missing
}

// wrote tells that the key is this process's.
func (w *Worker) wrote(revision int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missing, w.theirs, w.key = false, false, revision
	ring(w.bell)
}

// withdraw deletes the key if it is still the one that this process wrote.
func (a *advert) withdraw(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.revision == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := a.worker.keys.worker(a.worker.cfg.AgentID)
	_, err := a.worker.cfg.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", a.revision)).
		Then(clientv3.OpDelete(key)).Commit()
	if err != nil {
		a.worker.cfg.Logger.Info("the worker's key stays until the agent's lease ends", "error", err)
	}
}

// info is what there is to tell.
func (w *Worker) info() WorkerInfo {
	info := WorkerInfo{
		Agent: w.cfg.AgentID, Instance: w.cfg.Instance, Labels: w.cfg.Labels, Groups: w.cfg.Groups,
		Host: w.cfg.Host, Platform: w.cfg.Platform, Version: w.cfg.Version,
		Concurrency: w.cfg.Concurrency, Room: w.cfg.Concurrency + w.cfg.Backlog,
	}
	for _, s := range w.cfg.Plugins.List() {
		if s.State == plugin.Running || s.State == plugin.Degraded {
			info.Plugins = append(info.Plugins, WorkerPlugin{Name: s.Name, Version: s.Version, Capabilities: s.Capabilities})
		}
	}
	return info
}
