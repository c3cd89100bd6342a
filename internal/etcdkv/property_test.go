package etcdkv_test

import (
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// world is one store with its only writer, the writer's model of it, and what
// follows it through proxies.
type world struct {
	t       *testing.T
	random  *rand.Rand
	server  *etcdtest.Server
	direct  *clientv3.Client
	proxies []*etcdtest.Proxy
	watches []*etcdkv.Watch
	history *history
	leases  map[int64][]string // keys
	restore func()             // nil = no backup
	backup  *history
	exact   bool // the store has not gone back since the last quiet point

	followers []*follower
}

// TestWatchEqualsItsStoreAtEveryQuietPoint: a change missed, told twice or
// told in the wrong order, in whatever order writes, compactions, cuts,
// restarts and restored backups come. PERENNIAL_WATCH_SEED repeats a run,
// PERENNIAL_WATCH_SOAK=2m makes it that long.
func TestWatchEqualsItsStoreAtEveryQuietPoint(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("PERENNIAL_WATCH_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("PERENNIAL_WATCH_SEED=%d", seed)
	soak, _ := time.ParseDuration(os.Getenv("PERENNIAL_WATCH_SOAK"))
	const rounds = 6
	w := newWorld(t, rand.New(rand.NewPCG(seed, 0))) //nolint:gosec // repeatable on purpose
	began := time.Now()
	for round := 0; round < rounds || time.Since(began) < soak; round++ {
		w.round(round)
		w.quiet()
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	restarts := map[etcdkv.Restart]int64{}
	var events, views, folded int64
	for _, watch := range w.watches {
		s := watch.Stats()
		events, views, folded = events+s.Events, views+s.Views, folded+s.Folded
		for why, n := range s.Restarts {
			restarts[why] += n
		}
	}
	t.Logf("%d revisions, %d events in %d views (%d folded), restarts %v", w.history.revision, events, views, folded, restarts)
}

func newWorld(t *testing.T, random *rand.Rand) *world {
	t.Helper()
	server := etcdtest.Start(t)
	w := &world{
		t: t, random: random, server: server, direct: server.Client(t),
		leases: map[int64][]string{}, exact: true,
	}
	w.history = newHistory(w.get().Header.Revision)
	for range 2 {
		w.proxies = append(w.proxies, server.Proxy(t))
	}
	for i, f := range []*follower{
		{prefixes: []string{"/p/"}},
		{prefixes: []string{"/p/"}},
		{keys: []string{"/k/1"}},
		{keys: []string{"/k/1", "/k/2"}, prefixes: []string{"/p/", "/q/"}},
		{keys: []string{"/q/0", "/q/0", "/k/2"}, prefixes: []string{"/q/", "/q/1", "/q/"}}, // overlap
	} {
		w.follow(f, w.proxies[i%len(w.proxies)].Client(t))
	}
	return w
}

func (w *world) follow(f *follower, c *clientv3.Client) {
	w.t.Helper()
	// Of its own, because the watch's goroutine uses it.
	random := rand.New(rand.NewPCG(w.random.Uint64(), 0)) //nolint:gosec // repeatable on purpose
	slow := []time.Duration{0, 0, 5 * time.Millisecond, 100 * time.Millisecond}[w.random.IntN(4)]
	f.slow = func() { _ = backoff.Sleep(w.t.Context(), span(slow, random.Float64())) }
	watch, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: c, Keys: f.keys, Prefixes: f.prefixes,
		Coalesce: []time.Duration{-1, time.Millisecond, 20 * time.Millisecond, 0}[w.random.IntN(4)],
		OnChange: f.change,
		OnError:  f.fail,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	watch.SetStaleness(100*time.Millisecond, 200*time.Millisecond)
	watch.SetSpread(20*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond)
	background(w.t, watch.Run)
	w.followers, w.watches = append(w.followers, f), append(w.watches, watch)
}

// round writes, and lets happen what can happen to a store and to the way to
// it.
func (w *world) round(number int) {
	w.t.Helper()
	for range 20 + w.random.IntN(40) {
		switch n := w.random.IntN(40); {
		case n == 0:
			w.compact()
		case n == 1:
			w.proxies[w.random.IntN(2)].Cut()
		case n == 2:
			w.proxies[w.random.IntN(2)].Freeze()
		case n == 3:
			w.proxies[w.random.IntN(2)].Heal()
		case n < 6:
			w.behind()
		case n < 8:
			w.grant()
		case n < 10:
			w.revoke()
		case n < 18:
			w.txn()
		default:
			w.put()
		}
	}
	switch number % 6 { // the costly ones
	case 1:
		w.proxies[0].Cut()
		for range 1100 { // more to catch up on than the server sends at once
			w.put()
		}
	case 2:
		w.server.Restart()
		w.dial()
	case 3:
		w.restore, w.backup = w.server.Backup(), &history{}
		w.dial()
		*w.backup = *w.history
		w.backup.past = maps.Clone(w.history.past)
	case 4:
		w.rewind()
	case 5:
		if w.random.IntN(2) == 0 {
			w.server.Wipe()
			w.dial()
			w.forget(newHistory(w.get().Header.Revision))
		}
	}
}

// behind compacts what watches have not seen.
func (w *world) behind() {
	w.t.Helper()
	p := w.proxies[w.random.IntN(2)]
	p.Cut()
	for range 1 + w.random.IntN(5) {
		w.put()
	}
	w.compact()
	p.Heal()
}

// rewind restores the backup, and writes past the revision that the watches
// have seen before any of them is let back to the store.
func (w *world) rewind() {
	w.t.Helper()
	for _, p := range w.proxies {
		p.Cut()
	}
	seen := w.history.revision
	w.restore()
	w.dial()
	w.forget(w.backup)
	for w.random.IntN(3) > 0 || w.history.revision < seen {
		w.put()
	}
}

// dial spares the writer the wait for its client's next attempt to connect.
func (w *world) dial() { w.direct = w.server.Client(w.t) }

func (w *world) forget(now *history) {
	w.history, w.exact = now, false
	w.leases = map[int64][]string{} // those of the backup are kept by etcd, with their keys
}

// quiet heals all, waits for every follower and checks what it was told.
func (w *world) quiet() {
	w.t.Helper()
	for _, p := range w.proxies {
		p.Heal()
	}
	w.settle()
	if !w.exact {
		// A watch whose part of the store is what it was before the store went
		// back may have yet to notice.
		for _, key := range []string{"/k/1", "/k/2", "/p/0", "/q/0"} {
			w.do(clientv3.OpPut(key, w.value()))
		}
		w.settle()
	}
	for _, f := range w.followers {
		f.check(w.t, w.history, w.exact)
	}
	w.exact = true
}

// settle waits until every follower shows what the store holds.
func (w *world) settle() {
	w.t.Helper()
	store := map[string]etcdkv.Value{}
	for _, kv := range w.get().Kvs {
		store[string(kv.Key)] = etcdkv.Value{Data: kv.Value, ModRevision: kv.ModRevision, CreateRevision: kv.CreateRevision, Lease: kv.Lease}
	}
	if !equal(store, w.history.now) {
		w.t.Fatalf("the model is wrong: %s, want %s", describe(w.history.now), describe(store))
	}
	for _, f := range w.followers {
		waittest.Nil(w.t, "view and store are equal", func() error { return f.settled(store) })
	}
}

func (w *world) get() *clientv3.GetResponse {
	w.t.Helper()
	var r *clientv3.GetResponse
	waittest.Nil(w.t, "the store is read", func() (err error) {
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
		defer cancel()
		r, err = w.direct.Get(ctx, "\x00", clientv3.WithFromKey())
		return err
	})
	return r
}

func (w *world) key() string {
	return []string{"/p/", "/p/", "/q/", "/k/", "/other/"}[w.random.IntN(5)] + strconv.Itoa(w.random.IntN(4))
}

func (w *world) value() string {
	if w.random.IntN(30) == 0 {
		return string(make([]byte, 400<<10)) // a few of them make fragments
	}
	return strconv.FormatUint(w.random.Uint64(), 36)
}

// do runs ops in one transaction. It is not tried again: the server is up.
func (w *world) do(ops ...clientv3.Op) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(w.t.Context()), waittest.Patience)
	defer cancel()
	r, err := w.direct.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		w.t.Fatal(err)
	}
	changes := map[string]*etcdkv.Value{}
	for _, op := range ops {
		key := string(op.KeyBytes())
		if op.IsPut() {
			changes[key] = &etcdkv.Value{Data: op.ValueBytes()}
			continue
		}
		for k := range w.history.now {
			if k == key || len(op.RangeBytes()) > 0 && k > key && k < string(op.RangeBytes()) {
				changes[k] = nil
			}
		}
	}
	if len(changes) > 0 {
		w.history.commit(r.Header.Revision, changes)
	}
}

func (w *world) put() {
	w.t.Helper()
	w.do(clientv3.OpPut(w.key(), w.value()))
}

// txn changes several keys at one revision.
func (w *world) txn() {
	w.t.Helper()
	var ops []clientv3.Op
	used := map[string]bool{}
	for range 1 + w.random.IntN(4) {
		key := w.key()
		switch {
		case used[key]:
		case w.random.IntN(3) > 0:
			ops = append(ops, clientv3.OpPut(key, w.value()))
		default:
			ops = append(ops, clientv3.OpDelete(key))
		}
		used[key] = true
	}
	if w.random.IntN(10) == 0 {
		ops = []clientv3.Op{clientv3.OpDelete("/p/", clientv3.WithPrefix())}
	}
	w.do(ops...)
}

// grant hangs keys on a lease.
func (w *world) grant() {
	w.t.Helper()
	lease, err := w.direct.Grant(w.t.Context(), 3600)
	if err != nil {
		w.t.Fatal(err)
	}
	for range 1 + w.random.IntN(3) {
		key, value := w.key(), w.value()
		r, err := w.direct.Put(w.t.Context(), key, value, clientv3.WithLease(lease.ID))
		if err != nil {
			w.t.Fatal(err)
		}
		w.history.commit(r.Header.Revision, map[string]*etcdkv.Value{key: {Data: []byte(value), Lease: int64(lease.ID)}})
		w.leases[int64(lease.ID)] = append(w.leases[int64(lease.ID)], key)
	}
}

// revoke deletes what hangs on a lease, at one revision.
func (w *world) revoke() {
	w.t.Helper()
	ids := slices.Sorted(maps.Keys(w.leases))
	if len(ids) == 0 {
		return
	}
	id := ids[w.random.IntN(len(ids))]
	if _, err := w.direct.Revoke(w.t.Context(), clientv3.LeaseID(id)); err != nil {
		w.t.Fatal(err)
	}
	changes := map[string]*etcdkv.Value{}
	for _, key := range w.leases[id] {
		if w.history.now[key].Lease == id {
			changes[key] = nil
		}
	}
	delete(w.leases, id)
	if len(changes) > 0 {
		w.history.commit(w.history.revision+1, changes)
	}
}

func (w *world) compact() {
	w.t.Helper()
	at := w.history.revision - int64(w.random.IntN(3))
	if _, err := w.direct.Compact(w.t.Context(), at); err != nil && at > 1 {
		w.t.Log("compaction: ", err) // there was a later one
	}
}
