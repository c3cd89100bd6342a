package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

const (
	restTarget = 1.1
	restTTL    = 30 * time.Second
)

// bareLife is a lease, a key on it, and if asked for a plain watch.
type bareLife struct {
	client  *clientv3.Client
	key     string
	keep    keeping
	watches bool
	isRight atomic.Bool
}

// keeping renews a lease, every third of restTTL, until ctx ends.
type keeping func(ctx context.Context, c *clientv3.Client, lease clientv3.LeaseID) error

// keepAlive is how clientv3 keeps a lease: a timer looks every half second
// whether it is time. In a process with many of them such timers fall into step.
func keepAlive(ctx context.Context, c *clientv3.Client, lease clientv3.LeaseID) error {
	alive, err := c.KeepAlive(ctx, lease)
	if err != nil {
		return err
	}
	for range alive {
	}
	return errors.Join(ctx.Err(), errors.New("the lease is no longer kept"))
}

// keepApart renews by the same requests, each lease in its own time as on a host
// of its own. Renewals that come in bursts cost etcd about half of what single
// ones do, which each wake it up.
func keepApart(ctx context.Context, c *clientv3.Client, lease clientv3.LeaseID) error {
	stream, err := clientv3.RetryLeaseClient(c).LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	for {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)}); err != nil {
			return err
		}
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if r.TTL <= 0 {
			return errors.New("the lease is gone")
		}
		if err := sleep.For(ctx, backoff.Jitter(restTTL/3, 0.2)); err != nil {
			return err
		}
	}
}

func bareLives(keep keeping, watches bool) kind {
	return kind{dial: plainClient, life: func(c *clientv3.Client, key string, _ func(error)) (life, error) {
		return &bareLife{client: c, key: key, keep: keep, watches: watches}, nil
	}}
}

func (l *bareLife) run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lease, err := l.client.Grant(ctx, int64(restTTL/time.Second))
	if err != nil {
		return err
	}
	if _, err := l.client.Put(ctx, l.key, registration(), clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	l.isRight.Store(true)
	if l.watches {
		events := l.client.Watch(ctx, l.key+"/config")
		all.Go(func() {
			for range events {
			}
		})
	}
	return l.keep(ctx, l.client, lease.ID)
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
		"%d agents, each with a connection of its own, TTL %v; renewals every %v, agents' every %v unless the fleet's settings say otherwise; agents have a watch of three keys",
		n, restTTL, restTTL/3, etcdkv.DefaultInterval)}}
	arms := []struct {
		name string
		kind kind
	}{
		{"bare leases", bareLives(keepApart, false)},
		{"bare leases and watches", bareLives(keepApart, true)},
		{"agents that renew as often", agentLives(restTTL, restTTL/3)},
		{"agents", agentLives(restTTL, 0)},
		{"bare leases by KeepAlive", bareLives(keepAlive, false)},
	}
	rests := make([]rest, len(arms))
	for i, arm := range arms {
		b.say("rest: %s", arm.name)
		r, err := b.rest(ctx, arm.kind, n)
		if err != nil {
			return figure{}, fmt.Errorf("%s: %w", arm.name, err)
		}
		rests[i] = r
		f.Notes = append(f.Notes, fmt.Sprintf("%s: %s %% of a core, %s MiB, each agent %s messages in 10 s",
			arm.name, number(r.processor), number(r.resident), number(r.messages)))
	}
	for _, pair := range [][2]int{{1, 0}, {2, 1}, {2, 0}, {3, 0}, {2, 4}, {3, 4}} {
		name := arms[pair[0]].name + " / " + arms[pair[1]].name + ", "
		a, b := rests[pair[0]], rests[pair[1]]
		f.Verdicts = append(f.Verdicts,
			within(name+"processor time of etcd", "×", a.processor/b.processor, restTarget),
			within(name+"memory of etcd", "×", a.resident/b.resident, restTarget))
	}
	return f, nil
}

// rest is what one kind costs.
type rest struct {
	processor float64 // % of a core
	resident  float64 // MiB
	messages  float64 // of one agent to etcd in 10 s
}

func (b *bench) rest(ctx context.Context, k kind, n int) (_ rest, err error) {
	data, err := b.path("etcd-rest")
	if err != nil {
		return rest{}, err
	}
	etcd, err := b.launchEtcd(ctx, data, "127.0.0.1:0")
	if err != nil {
		return rest{}, err
	}
	s, err := simulate(ctx, etcd.url, n, restTTL/3, k)
	if err != nil {
		return rest{}, err
	}
	defer func() { err = errors.Join(err, s.close(), etcd.stop()) }()
	if err := sleep.For(ctx, time.Duration(b.times(10, 2))*time.Second); err != nil {
		return rest{}, err
	}
	before, err := messages(ctx, etcd.url)
	if err != nil {
		return rest{}, err
	}
	began := time.Now()
	u := newUsage("etcd", etcd)
	if err := u.begin(); err != nil {
		return rest{}, err
	}
	// A watch that hears nothing asks for a sign of life once in this time.
	for range b.times(80, 10) {
		if err := errors.Join(sleep.For(ctx, time.Second), u.sample()); err != nil {
			return rest{}, err
		}
	}
	r := rest{processor: u.processor(), resident: u.resident.median()}
	after, err := messages(ctx, etcd.url)
	r.messages = float64(after-before) / float64(n) * 10 / time.Since(began).Seconds()
	return r, err
}
