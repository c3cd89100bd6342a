package dispatch

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/plugin"
)

// advertEvery is how often plugins and lease are looked at.
const advertEvery = time.Second

// advert keeps the worker's key.
type advert struct {
	worker   *Worker
	value    string           // as it was written last
	lease    clientv3.LeaseID // on which
	revision int64            // 0 = it is not known to be there
	failing  bool
}

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
		switch err := a.write(ctx); {
		case err == nil:
			retry.Reset()
			a.failing = false
			if a.revision == 0 {
				wait = advertEvery / 20 // the agent is about to have a lease
			}
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			a.value = "" // the agent will have another
		default:
			wait = retry.Next()
			if !a.failing && ctx.Err() == nil {
				a.failing = true
				a.worker.cfg.Logger.Warn("the worker cannot tell that it takes tasks", "error", err)
			}
		}
		timer.Reset(wait)
	}
}

// write writes the key if it is out of date. Where another process of the agent
// has written it, that one goes before.
func (a *advert) write(ctx context.Context) error {
	w := a.worker
	lease := w.cfg.Lease()
	value, err := encode(workerValue{schema, w.info()})
	if err != nil {
		return err
	}
	w.mu.Lock()
	theirs, missing := w.theirs, w.missing
	w.mu.Unlock()
	first := a.revision == 0
	if lease == 0 || !first && !missing && (theirs || value == a.value && lease == a.lease) {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := w.cfg.Client.Put(limited, w.keys.worker(w.cfg.AgentID), value, clientv3.WithLease(lease))
	if err != nil {
		return err
	}
	a.value, a.lease, a.revision = value, lease, r.Header.Revision
	w.mu.Lock()
	w.missing = false
	w.mu.Unlock()
	ring(w.bell)
	return nil
}

// withdraw deletes the key if it is still the one that this process wrote.
func (a *advert) withdraw(ctx context.Context) {
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
