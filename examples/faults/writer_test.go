package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/waittest"
)

// writer changes the configuration: each write counts up the value of one of
// the documents that make it.
type writer struct {
	testing.TB
	client *clientv3.Client
	scopes []string

	mu    sync.Mutex
	tried map[string]int // by scope
	acked map[string]int // the last that etcd has confirmed
	count int            // confirmed
}

func newWriter(tb testing.TB, c *clientv3.Client) *writer {
	return &writer{
		TB: tb, client: c, scopes: []string{"global", "group/" + group, "agent/a1"},
		tried: map[string]int{}, acked: map[string]int{},
	}
}

// value is the name of what a scope's document counts up.
func value(scope string) string { return scope[:5] }

func (w *writer) key(scope string) string { return "/agents/config/" + scope }

// write changes one document, if nobody else does meanwhile: one that was
// given up, and that etcd performs later, must not undo one that came after it.
func (w *writer) write(ctx context.Context, scope string) error {
	w.mu.Lock()
	w.tried[scope]++
	n := w.tried[scope]
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	key := w.key(scope)
	found, err := w.client.Get(ctx, key)
	if err != nil {
		return err
	}
	var revision int64
	if found.Count > 0 {
		revision = found.Kvs[0].ModRevision
	}
	r, err := w.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, fmt.Sprintf("values: {%s: %d}", value(scope), n))).Commit()
	if err != nil {
		return err
	}
	if !r.Succeeded {
		return errors.New("a change that had been given up came in between")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked[scope] = n
	w.count++
	return nil
}

// writeAll changes each document, however often it must be tried.
func (w *writer) writeAll() {
	w.Helper()
	for _, scope := range w.scopes {
		waittest.Nil(w, "etcd takes a change", func() error { return w.write(w.Context(), scope) })
	}
}

// begin writes in turns, some fifty times a second, until stop is called,
// which returns how many changes etcd has confirmed.
func (w *writer) begin() (stop func() int) {
	ctx, cancel := context.WithCancel(w.Context())
	before := w.confirmed()
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
				_ = w.write(ctx, w.scopes[i%len(w.scopes)]) // not confirmed, not counted
			case <-ctx.Done():
				return
			}
		}
	})
	return func() int {
		cancel()
		wg.Wait()
		return w.confirmed() - before
	}
}

func (w *writer) confirmed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// forget is for what etcd itself has lost: it went back in time.
func (w *writer) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked = map[string]int{}
}

// lost counts the confirmed changes that are not in what an agent runs.
func (w *writer) lost(running map[string]int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for scope, acked := range w.acked {
		n += max(0, acked-running[value(scope)])
	}
	return n
}

// stored reads what etcd holds: the values, and the revision that an agent
// which runs them names.
func (w *writer) stored(ctx context.Context) (values map[string]int, revision int64, err error) {
	values = map[string]int{}
	for _, scope := range w.scopes {
		r, err := w.client.Get(ctx, w.key(scope))
		if err != nil {
			return nil, 0, err
		}
		for _, kv := range r.Kvs {
			var n int
			if _, err := fmt.Sscanf(string(kv.Value), "values: {"+value(scope)+": %d}", &n); err != nil {
				return nil, 0, err
			}
			values[value(scope)] = n
			revision = max(revision, kv.ModRevision)
		}
	}
	return values, revision, nil
}

// runs tells whether the agent runs what etcd holds.
func (w *writer) runs(ctx context.Context, s state) error {
	values, revision, err := w.stored(ctx)
	if err != nil {
		return err
	}
	if !maps.Equal(values, s.Values) || revision != s.Revision {
		return fmt.Errorf("etcd holds %v at revision %d, the agent runs %v of %d", values, revision, s.Values, s.Revision)
	}
	if c := s.Config; c.Error != "" || c.Running != c.Wanted || c.Running != revision {
		return fmt.Errorf("etcd holds revision %d, the agent says %+v", revision, c)
	}
	return nil
}
