package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

const (
	simulatedRoot = "/bench/simulated/registry/"
	// startEvery spreads the starts of simulated agents, as those of real
	// ones are: all at once is another question.
	startEvery = time.Millisecond
	// registrationBytes is about the size of a real registration.
	registrationBytes = 600
)

// simulated is many agents in one process, so far as etcd sees them. Each has
// a client, and with it a connection, of its own.
type simulated struct {
	clients []*clientv3.Client
	lives   []life
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	errs    int
	refused int // "too many requests"
}

// life is one simulated agent.
type life interface {
	// run registers, and keeps that up until ctx ends.
	run(ctx context.Context) error
	// right tells whether all is as it should be, by what was heard after
	// that moment.
	right(since time.Time) bool
}

// kind makes an agent's life on a client; problem takes what goes wrong.
type kind struct {
	dial func(url string) (*clientv3.Client, error)
	life func(c *clientv3.Client, key string, problem func(error)) (life, error)
}

func agentClient(url string) (*clientv3.Client, error) {
	return etcdkv.Dial(etcdkv.ClientConfig{Endpoints: []string{url}})
}

func plainClient(url string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{url}, DialTimeout: startLimit, Logger: zap.NewNop()})
}

// simulate starts n agents, spread over that time at least, and returns once
// all are registered.
func simulate(ctx context.Context, url string, n int, over time.Duration, k kind) (*simulated, error) {
	pause := max(startEvery, over/time.Duration(n))
	run, stop := context.WithCancel(ctx)
	s := &simulated{stop: stop}
	for i := range n {
		c, err := k.dial(url)
		if err == nil {
			s.clients = append(s.clients, c)
			var l life
			if l, err = k.life(c, fmt.Sprintf("%sagent-%05d", simulatedRoot, i), s.problem); err == nil {
				s.lives = append(s.lives, l)
				s.running.Go(func() {
					if err := l.run(run); run.Err() == nil {
						s.problem(err)
					}
				})
				err = sleep.For(ctx, pause)
			}
		}
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	err := until(ctx, fmt.Sprintf("%d agents are registered", n), 2*startLimit, func() bool {
		if s.rightSince(time.Time{}) < n {
			return false
		}
		keys, err := s.registered(ctx) // not before: it costs etcd much
		return err == nil && len(keys) == n
	})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *simulated) problem(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs++
	if errors.Is(err, rpctypes.ErrTooManyRequests) {
		s.refused++
	}
}

// registered returns the agents' keys with the leases that they hang on.
func (s *simulated) registered(ctx context.Context) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := s.clients[0].Get(ctx, simulatedRoot, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	keys := make(map[string]int64, len(r.Kvs))
	for _, kv := range r.Kvs {
		keys[string(kv.Key)] = kv.Lease
	}
	return keys, nil
}

// rightSince counts the agents that are right, by what was heard after moment.
func (s *simulated) rightSince(moment time.Time) int {
	n := 0
	for _, l := range s.lives {
		if l.right(moment) {
			n++
		}
	}
	return n
}

// rightAgain is rightSince of those that have not been right yet: in a busy
// moment a beat may be late, which says nothing about the outage.
func (s *simulated) rightAgain(moment time.Time, yet []bool) bool {
	all := true
	for i, l := range s.lives {
		yet[i] = yet[i] || l.right(moment)
		all = all && yet[i]
	}
	return all
}

func (s *simulated) close() error {
	s.stop()
	s.running.Wait()
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i, part := range slices.Collect(slices.Chunk(s.clients, len(s.clients)/len(errs)+1)) {
		wg.Go(func() { errs[i] = closeAll(part) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// registration is what is written under a key.
func registration() string { return string(bytes.Repeat([]byte("r"), registrationBytes)) }

// agentLife is what an agent of ours has with etcd: a lease, a key on it, and
// a watch of its documents and its order.
type agentLife struct {
	session *etcdkv.Session
	watch   *etcdkv.Watch
	wrote   sync.Once
	written chan struct{}
}

// agentLives keeps a lease by ttl, and renews it every interval (0 = as agents
// do).
func agentLives(ttl, interval time.Duration) kind {
	return kind{dial: agentClient, life: func(c *clientv3.Client, key string, problem func(error)) (life, error) {
		a := &agentLife{written: make(chan struct{})}
		var err error
		a.session, err = etcdkv.NewSession(etcdkv.SessionConfig{
			Client: c, TTL: ttl, Interval: interval,
			OnLease: func(ctx context.Context, lease int64) error {
				_, err := c.Put(ctx, key, registration(), clientv3.WithLease(clientv3.LeaseID(lease)))
				if err == nil {
					a.wrote.Do(func() { close(a.written) })
				}
				problem(err)
				return err
			},
			OnBeat: func(_ time.Duration, err error) { problem(err) },
		})
		if err != nil {
			return nil, err
		}
		a.watch, err = etcdkv.NewWatch(etcdkv.WatchConfig{
			Client:   c,
			Keys:     []string{"/bench/simulated/config/global", key + "/config", key + "/order"},
			OnChange: func(etcdkv.View) {},
			OnError:  problem,
		})
		return a, err
	}}
}

func (a *agentLife) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = a.watch.Run(ctx) }) // ends with ctx only
	return a.session.Run(ctx)
}

func (a *agentLife) right(since time.Time) bool {
	select {
	case <-a.written:
	default:
		return false
	}
	at, _, _ := a.session.LastBeat()
	return at.After(since) && a.watch.Heard().After(since)
}
