package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/examples/internal/sleep"
)

const (
	restTarget = 1.1
	restTTL    = 30 * time.Second
)

// bareLife is a lease that clientv3 keeps, a key on it, and if asked for a
// plain watch.
type bareLife struct {
	client  *clientv3.Client
	key     string
	watches bool
	isRight atomic.Bool
}

func bareLives(watches bool) kind {
	return kind{dial: plainClient, life: func(c *clientv3.Client, key string, _ func(error)) (life, error) {
		return &bareLife{client: c, key: key, watches: watches}, nil
	}}
}

func (l *bareLife) run(ctx context.Context) error {
	lease, err := l.client.Grant(ctx, int64(restTTL/time.Second))
	if err != nil {
		return err
	}
	alive, err := l.client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	if _, err := l.client.Put(ctx, l.key, registration(), clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	l.isRight.Store(true)
	var events clientv3.WatchChan
	if l.watches {
		events = l.client.Watch(ctx, l.key+"/config")
	}
	for {
		select {
		case _, ok := <-alive:
			if !ok {
				return errors.New("the lease is no longer kept")
			}
		case <-events:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *bareLife) right(time.Time) bool { return l.isRight.Load() }

// measureRest lets each kind of agent rest on an etcd of its own, one after
// the other: together they would want more descriptors than many a system
// gives.
func measureRest(ctx context.Context, b *bench) (figure, error) {
	if statFields("/proc/self/stat") == nil {
		return figure{Skipped: "memory and processor time are read from /proc, which is not there"}, nil
	}
	n := b.fleet()
	f := figure{Notes: []string{fmt.Sprintf(
		"%d agents, each with a connection of its own, TTL %v; clientv3 renews every %v, agents every 5 s unless the fleet's settings say otherwise; agents have a watch of three keys",
		n, restTTL, restTTL/3)}}
	arms := []struct {
		name string
		kind kind
	}{
		{"bare leases", bareLives(false)},
		{"agents", agentLives(restTTL, 0)},
		{"agents that renew as clientv3 does", agentLives(restTTL, restTTL/3)},
		{"bare leases, each with a bare watch", bareLives(true)},
	}
	rests := make([]rest, len(arms))
	for i, arm := range arms {
		b.say("rest: %s", arm.name)
		r, err := b.rest(ctx, arm.name, arm.kind, n)
		if err != nil {
			return figure{}, fmt.Errorf("%s: %w", arm.name, err)
		}
		rests[i] = r
		f.Measures = append(f.Measures, measures(r.processor, r.resident)...)
	}
	for i := 1; i < len(arms); i++ {
		compare := func(base int) (processor, resident float64) {
			return rests[i].processor.median() / rests[base].processor.median(), rests[i].resident.median() / rests[base].resident.median()
		}
		processor, resident := compare(0)
		f.Verdicts = append(f.Verdicts,
			within(arms[i].name+" / bare leases, processor time of etcd", "×", processor, restTarget),
			within(arms[i].name+" / bare leases, memory of etcd", "×", resident, restTarget))
	}
	return f, nil
}

// rest is what one kind costs.
type rest struct{ processor, resident *series }

func (b *bench) rest(ctx context.Context, name string, k kind, n int) (_ rest, err error) {
	data, err := b.path("etcd-rest")
	if err != nil {
		return rest{}, err
	}
	etcd, err := b.launchEtcd(ctx, data, "127.0.0.1:0")
	if err != nil {
		return rest{}, err
	}
	s, err := simulate(ctx, etcd.url, n, k)
	if err != nil {
		return rest{}, err
	}
	defer func() { err = errors.Join(err, s.close(), etcd.stop()) }()
	if err := sleep.For(ctx, time.Duration(b.times(10, 2))*time.Second); err != nil {
		return rest{}, err
	}
	r := rest{
		processor: &series{what: "etcd, " + name + ": processor time, parts of the window", unit: "% of a core"},
		resident:  &series{what: "etcd, " + name + ": resident memory (VmRSS)", unit: "MiB"},
	}
	// Parts of ten seconds, in which each lease is renewed once at least.
	for range b.times(2, 1) {
		u := newUsage(name, etcd)
		if err := errors.Join(u.begin(), sleep.For(ctx, time.Duration(b.times(10, 5))*time.Second), u.sample()); err != nil {
			return rest{}, err
		}
		r.processor.add(u.processor())
		r.resident.add(u.resident.median())
	}
	return r, nil
}
