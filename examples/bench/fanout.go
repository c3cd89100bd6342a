package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

const (
	fanoutTarget      = 1.15 // × raw watch, p99
	fanoutApplyTarget = 1.3  // the same, decoded and applied
	// perConnection is how many simulated agents share one connection where
	// many connections are not what is measured.
	perConnection = 10
	// betweenWrites leaves each follower more than the 100 ms in which it is
	// told of one change only: its turn is one in four.
	betweenWrites = 60 * time.Millisecond
	// oneIn is the share of stores in the crowd where the others only watch,
	// as they would on hosts of their own.
	oneIn = 100
)

// crowd is many followers of one key.
type crowd struct {
	key      string
	p50, p99 *series
	few      *series // of every hundredth follower
	round    atomic.Pointer[crowdRound]
}

// crowdRound is one write, and when each of the crowd has it.
type crowdRound struct {
	value string
	began time.Time
	took  []time.Duration
	left  atomic.Int64
	done  chan struct{}
}

// seen notes that follower i has value.
func (c *crowd) seen(i int, value string) {
	r := c.round.Load()
	if r == nil || r.value != value || r.took[i] != 0 {
		return
	}
	r.took[i] = time.Since(r.began)
	if r.left.Add(-1) == 0 {
		close(r.done)
	}
}

// write puts value and waits until n followers have it.
func (c *crowd) write(ctx context.Context, client *clientv3.Client, n int, value string) (*crowdRound, error) {
	return c.writeAs(ctx, client, n, value, value)
}

// writeAs is write of a value that followers tell of as something else.
func (c *crowd) writeAs(ctx context.Context, client *clientv3.Client, n int, value, as string) (*crowdRound, error) {
	r := &crowdRound{value: as, took: make([]time.Duration, n), done: make(chan struct{}), began: time.Now()}
	r.left.Store(int64(n))
	c.round.Store(r)
	if _, err := client.Put(ctx, c.key, value); err != nil {
		return nil, err
	}
	select {
	case <-r.done:
		return r, nil
	case <-time.After(startLimit):
		return nil, fmt.Errorf("want %d followers of %s to see a change within %v, %d did not", n, c.key, startLimit, r.left.Load())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func newCrowd(key, who string) *crowd {
	return &crowd{
		key: key,
		p50: &series{what: who + ": Put until half have it", unit: "ms"},
		p99: &series{what: who + ": Put until 99 % have it", unit: "ms"},
		few: &series{what: who + ": Put until every hundredth has it", unit: "ms"},
	}
}

// measureFanout writes in turns to several keys, each with as many followers.
func measureFanout(ctx context.Context, b *bench) (_ figure, err error) {
	url, err := b.startEtcd(ctx)
	if err != nil {
		return figure{}, err
	}
	n := b.times(1000, 50)
	pool, err := dialMany(url, crowds*n/perConnection+1)
	if err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, closeAll(pool)) }()
	run, cancel := context.WithCancel(ctx)
	followers, run := errgroup.WithContext(run)
	f := &fanout{n: n, writer: pool[0], pool: pool[1:], run: run, followers: followers}
	figure, err := f.measure(ctx, b.times(60, 5))
	cancel()
	if end := followers.Wait(); err == nil && !errors.Is(end, context.Canceled) {
		err = end
	}
	return figure, err
}

type fanout struct {
	n         int
	writer    *clientv3.Client
	pool      []*clientv3.Client
	run       context.Context
	followers *errgroup.Group
}

// crowds is how many there are.
const crowds = 4

func (f *fanout) measure(ctx context.Context, rounds int) (figure, error) {
	ours := newCrowd("/bench/fanout/watch", "etcdkv.Watch")
	raw := newCrowd("/bench/fanout/raw", "raw watch")
	stores := newCrowd("/bench/fanout/stores/config/global", "config.Store, all in this process")
	mixed := newCrowd("/bench/fanout/mixed/config/global", "config.Store, one in a hundred")
	all := [crowds]*crowd{ours, raw, stores, mixed}
	for i := range f.n {
		f.followRaw(raw, 1, i)
		err := errors.Join(f.followOurs(ours, 0, i), f.followStore(stores, 2, i))
		if i%oneIn == 0 {
			err = errors.Join(err, f.followStore(mixed, 3, i))
		} else {
			err = errors.Join(err, f.followOurs(mixed, 3, i))
		}
		if err != nil {
			return figure{}, err
		}
	}
	// The first rounds wait for streams to open, and are not counted.
	const warm = 3
	for i := range warm + rounds {
		for j := range all {
			// Another first each time: who comes after the crowd of stores
			// finds a processor that is still busy.
			c := all[(i+j)%len(all)]
			value := document{Number: i, Text: strings.Repeat("x", 1000)}.yaml()
			r, err := c.write(ctx, f.writer, f.n, value)
			if err != nil {
				return figure{}, err
			}
			if i >= warm {
				c.add(r)
			}
			if err := sleep.For(ctx, betweenWrites); err != nil {
				return figure{}, err
			}
		}
	}
	ratio := func(a, b *series, q float64) float64 { return a.quantile(q) / b.quantile(q) }
	return figure{
		Measures: measures(ours.p50, raw.p50, stores.p50, ours.p99, raw.p99, stores.p99, mixed.few, raw.few),
		Verdicts: []verdict{
			within("etcdkv.Watch / raw watch, p99, medians of the rounds", "×", ratio(ours.p99, raw.p99, 0.5), fanoutTarget),
			within("config.Store, one in a hundred / raw watch, p99 of every hundredth", "×", ratio(mixed.few, raw.few, 0.99), fanoutApplyTarget),
			within("config.Store, all in this process / raw watch, p99, medians of the rounds", "×", ratio(stores.p99, raw.p99, 0.5), fanoutApplyTarget),
			{What: "etcdkv.Watch / raw watch, p50, medians of the rounds", Unit: "×", Value: ratio(ours.p50, raw.p50, 0.5)},
			{What: "config.Store, one in a hundred / raw watch, p50 of every hundredth", Unit: "×", Value: ratio(mixed.few, raw.few, 0.5)},
			{What: "config.Store, all in this process / raw watch, p50, medians of the rounds", Unit: "×", Value: ratio(stores.p50, raw.p50, 0.5)},
		},
		Notes: []string{
			fmt.Sprintf("%d followers of each kind, %d to a connection, all in this process", f.n, perConnection),
			"agents parse, decode and apply on hosts of their own: where one in a hundred does and the others only watch, etcd has the work of all of them and this machine's processors have not",
		},
	}, nil
}

func (c *crowd) add(r *crowdRound) {
	all := series{unit: "ms"}
	for i, took := range r.took {
		all.addTime(took)
		if i%oneIn == 0 {
			c.few.addTime(took)
		}
	}
	c.p50.add(all.median())
	c.p99.add(all.quantile(0.99))
}

func (f *fanout) client(pool, i int) *clientv3.Client {
	per := len(f.pool) / crowds
	return f.pool[pool*per+i%per]
}

func (f *fanout) followOurs(c *crowd, pool, i int) error {
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: f.client(pool, i), Keys: []string{c.key},
		OnChange: func(v etcdkv.View) { c.seen(i, string(v.Values[c.key].Data)) },
	})
	if err != nil {
		return err
	}
	f.followers.Go(func() error { return w.Run(f.run) })
	return nil
}

func (f *fanout) followRaw(c *crowd, pool, i int) {
	events := f.client(pool, i).Watch(f.run, c.key)
	f.followers.Go(func() error {
		for r := range events {
			if err := r.Err(); err != nil {
				return err
			}
			for _, e := range r.Events {
				c.seen(i, string(e.Kv.Value))
			}
		}
		return f.run.Err()
	})
}

func (f *fanout) followStore(c *crowd, pool, i int) error {
	store, err := config.New(config.Config[document]{})
	if err != nil {
		return err
	}
	all := func(d *document) document { return *d }
	if _, err := config.Sub(store, "bench", all, func(_ context.Context, _, d document) error {
		c.seen(i, d.yaml())
		return nil
	}); err != nil {
		return err
	}
	source := config.Source{Client: f.client(pool, i), Root: strings.TrimSuffix(c.key, "config/global"), AgentID: fmt.Sprintf("a%d", i)}
	f.followers.Go(func() error { return store.Run(f.run, source) })
	return nil
}

// dialMany makes n clients of an agent.
func dialMany(url string, n int) ([]*clientv3.Client, error) {
	all := make([]*clientv3.Client, 0, n)
	for range n {
		c, err := etcdkv.Dial(etcdkv.ClientConfig{Endpoints: []string{url}})
		if err != nil {
			return nil, errors.Join(err, closeAll(all))
		}
		all = append(all, c)
	}
	return all, nil
}

func closeAll(clients []*clientv3.Client) error {
	var err error
	for _, c := range clients {
		err = errors.Join(err, c.Close())
	}
	return err
}
