package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// IndexConfig says what to index.
type IndexConfig struct {
	// Directory is used, never closed. Required.
	Directory *Directory
	// Coalesce is the least distance between two snapshots; default 100 ms,
	// negative = none. The first change after a pause shows at once.
	Coalesce time.Duration
	// OnError is called with what keeps the index from being up to date, such as
	// an etcd that has not answered for 15 s, and with nil once it is so again;
	// never concurrently, and it holds the index up. May be nil.
	OnError func(error)
	// Logger receives what of the agents' values cannot be read, once, and what
	// is odd but handled; nil discards it.
	Logger *slog.Logger
}

// Index keeps all agents in memory and up to date: through outages, compaction,
// a restored backup and an exchanged cluster. A change costs the agent that
// changed, and reading costs no lock. Its methods may be called concurrently.
type Index struct {
	watch   *etcdkv.Watch
	keys    keys
	log     *slog.Logger
	current atomic.Pointer[Snapshot]
	ready   <-chan struct{}
	trouble trouble
	client  *clientv3.Client

	// Of the goroutine in Run.
	roster      *roster
	loggedStray int
}

// NewIndex checks cfg and starts nothing.
func NewIndex(cfg IndexConfig) (*Index, error) {
	d := cfg.Directory
	if d == nil {
		return nil, errors.New("index of agents: IndexConfig.Directory is nil")
	}
	x := &Index{keys: d.keys, log: cfg.Logger, roster: newRoster(d.keys), client: d.client}
	if x.log == nil {
		x.log = slog.New(slog.DiscardHandler)
	}
	if x.trouble.tell = cfg.OnError; x.trouble.tell == nil {
		x.trouble.tell = func(error) {}
	}
	first := newSnapshot()
	x.ready = first.superseded
	x.current.Store(first)
	var err error
	x.watch, err = etcdkv.NewWatch(etcdkv.WatchConfig{
		Client:   d.client,
		Prefixes: []string{d.keys.registry(""), d.keys.status(""), d.keys.plugins()},
		OnChange: x.apply,
		OnError:  x.trouble.watch,
		Coalesce: cfg.Coalesce,
		Logger:   x.log,
	})
	return x, err
}

// Run keeps the index until ctx ends and returns its error. It can be called
// once.
func (x *Index) Run(ctx context.Context) error {
	var listening sync.WaitGroup
	defer listening.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	listening.Go(func() { x.listen(ctx) })
	return x.watch.Run(ctx)
}

// Ready is closed once all agents have been read.
func (x *Index) Ready() <-chan struct{} { return x.ready }

// Snapshot is the newest one. It is empty, at revision 0, before Ready.
func (x *Index) Snapshot() *Snapshot { return x.current.Load() }

// Err is what OnError was called with last; nil before.
func (x *Index) Err() error { return x.trouble.now() }

// Watch calls changed with the first snapshot, in which all agents are added,
// and then with the newest and what is different from the one that it was
// called with before, until ctx ends, whose error it returns. While changed
// runs, changes are folded: a slow one misses states, never the last. There may
// be any number of Watches.
func (x *Index) Watch(ctx context.Context, changed func(*Snapshot, Changes)) error {
	var told *Snapshot
	next := x.ready
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next:
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s := x.Snapshot()
		next = s.superseded
		if c := s.Since(told); told == nil || !c.Empty() {
			changed(s, c)
		}
		told = s
	}
}

// apply makes the next snapshot.
func (x *Index) apply(v etcdkv.View) {
	touched := map[string]bool{}
	for _, key := range v.Changed {
		var id string
		if value, ok := v.Values[key]; ok {
			id = x.roster.set(key, value.Data, value.CreateRevision)
		} else {
			id = x.roster.remove(key)
		}
		if id != "" {
			touched[id] = true
		}
	}
	old := x.current.Load()
	next := newSnapshot()
	next.revision, next.registered, next.entries = v.Revision, v.Reached(x.keys.registry("")), slices.Clone(old.entries)
	unreadable := 0
	for _, id := range slices.Sorted(maps.Keys(touched)) {
		e := x.roster.entry(id)
		if was := next.put(id, e); e != nil && e.Error != "" && (was == nil || was.Error == "") {
			x.logUnreadable(e, &unreadable)
		}
	}
	if unreadable > maxExamples {
		x.log.Warn("more agents have values that cannot be read", "count", unreadable-maxExamples)
	}
	next.strays = x.roster.report()
	x.logStrays(next.strays)
	x.current.Store(next)
	close(old.superseded)
}

// logUnreadable tells it once: an agent whose values stay unreadable is not
// told again, whatever it writes.
func (x *Index) logUnreadable(e *Entry, n *int) {
	if *n++; *n <= maxExamples {
		x.log.Warn("values of an agent cannot be read", "peer", e.ID, "error", e.Error)
	}
}

// logStrays tells of keys without an id only: those of an agent that is just
// registering may arrive before its registration does. It tells again when
// there are twice as many.
func (x *Index) logStrays(s Strays) {
	if s.Count < 2*x.loggedStray || s.Count == 0 {
		return
	}
	i := slices.IndexFunc(s.Examples, func(example string) bool { return strings.HasPrefix(example, `"`) })
	if i < 0 {
		return
	}
	x.loggedStray = s.Count
	x.log.Warn("keys among the agents' belong to none", "count", s.Count, "key", s.Examples[i])
}
