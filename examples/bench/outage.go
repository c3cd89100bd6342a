package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/perennial-go/perennial/examples/internal/sleep"
)

const (
	outageTarget = 10.0 // s
	// outageTTL is shorter than the outage and than the default of 30 s: with
	// that one, it is luck whether bare sessions lose their leases.
	outageTTL = 15 * time.Second
)

// sessionLife is an agent on concurrency.Session, used as its documentation
// does: a new one, and the key again, when the old one is done.
type sessionLife struct {
	client *clientv3.Client
	key    string
	since  atomic.Pointer[time.Time] // of the session that is held; nil = none
}

func sessionLives() kind {
	return kind{dial: plainClient, life: func(c *clientv3.Client, key string, _ func(error)) (life, error) {
		return &sessionLife{client: c, key: key}, nil
	}}
}

func (l *sessionLife) run(ctx context.Context) error {
	for ctx.Err() == nil {
		s, err := concurrency.NewSession(l.client, concurrency.WithTTL(int(outageTTL/time.Second)), concurrency.WithContext(ctx))
		if err == nil {
			_, err = l.client.Put(ctx, l.key, registration(), clientv3.WithLease(s.Lease()))
		}
		if err != nil {
			_ = sleep.For(ctx, time.Second) // the loop sees ctx's end
			continue
		}
		now := time.Now()
		l.since.Store(&now)
		select {
		case <-s.Done():
			l.since.Store(nil)
		case <-ctx.Done():
			s.Orphan()
		}
	}
	return ctx.Err()
}

func (l *sessionLife) right(time.Time) bool { return l.since.Load() != nil }

// measureOutage takes etcd away from one kind of agents, and then from the
// other.
func measureOutage(ctx context.Context, b *bench) (figure, error) {
	n := b.fleet()
	down := time.Duration(b.times(20, 17)) * time.Second
	f := figure{Notes: []string{fmt.Sprintf("%d agents, each with a connection of its own, TTL %v; etcd was down for %v", n, outageTTL, down)}}
	for _, arm := range []struct {
		name string
		kind kind
		ours bool
	}{
		{"agents", agentLives(outageTTL, 0), true},
		{"concurrency.Session", sessionLives(), false},
	} {
		b.say("outage: %s", arm.name)
		o, err := b.outage(ctx, n, down, arm.kind)
		if err != nil {
			return figure{}, fmt.Errorf("%s: %w", arm.name, err)
		}
		if arm.ours {
			f.Verdicts = append(f.Verdicts,
				within(arm.name+": registrations lost", "", float64(o.lost), 0),
				within(arm.name+": all are right again after etcd serves", "s", o.right.Seconds(), outageTarget),
				within(arm.name+`: "too many requests"`, "", float64(o.refused), 0))
		} else {
			f.Verdicts = append(f.Verdicts,
				verdict{What: arm.name + ": registrations lost", Value: float64(o.lost)},
				verdict{What: arm.name + ": all are registered again after etcd serves", Unit: "s", Value: o.right.Seconds()})
		}
		f.Verdicts = append(f.Verdicts, verdict{What: arm.name + ": most messages to etcd in a second", Unit: "/s", Value: o.peak})
	}
	return f, nil
}

// outage is how a fleet has come through.
type outage struct {
	lost    int // registrations that are gone or on another lease: their holder gave them up
	refused int // requests
	right   time.Duration
	peak    float64
}

func (b *bench) outage(ctx context.Context, n int, down time.Duration, k kind) (o outage, err error) {
	data, err := b.path("etcd-outage")
	if err != nil {
		return o, err
	}
	etcd, err := b.launchEtcd(ctx, data, "127.0.0.1:0")
	if err != nil {
		return o, err
	}
	s, err := simulate(ctx, etcd.url, n, 0, k)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, s.close(), b.servers[len(b.servers)-1].stop()) }()
	// Each lease has been renewed by then.
	if err := sleep.For(ctx, outageTTL/3); err != nil {
		return o, err
	}
	before, err := s.registered(ctx)
	if err != nil {
		return o, err
	}
	address, err := url.Parse(etcd.url)
	if err == nil {
		err = etcd.stop()
	}
	if err = errors.Join(err, sleep.For(ctx, down)); err != nil {
		return o, err
	}
	if etcd, err = b.launchEtcd(ctx, data, address.Host); err != nil {
		return o, err
	}
	served := time.Now()
	rates := countMessages(ctx, etcd.url)
	// A lease that nobody has resumed is gone by the end of the TTL, which
	// begins anew when etcd does.
	var after map[string]int64
	yet := make([]bool, n)
	err = until(ctx, "all agents are right again", 5*startLimit, func() bool {
		if o.right == 0 {
			if !s.rightAgain(served, yet) {
				return false
			}
			o.right = time.Since(served)
		}
		if time.Since(served) < outageTTL+5*time.Second {
			return false
		}
		after, err = s.registered(ctx)
		return err == nil
	})
	o.peak = rates.stop()
	for key, lease := range before {
		if after[key] != lease {
			o.lost++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.refused = s.refused
	return o, err
}

// counting asks etcd, until stop, how many messages it has received.
type counting struct {
	cancel context.CancelFunc
	peak   chan float64
}

func countMessages(ctx context.Context, base string) *counting {
	ctx, cancel := context.WithCancel(ctx)
	c := &counting{cancel: cancel, peak: make(chan float64, 1)}
	go func() {
		var peak float64
		var last int64
		at := time.Now()
		for sleep.For(ctx, time.Second) == nil {
			n, err := messages(ctx, base)
			if err != nil {
				continue
			}
			now := time.Now()
			peak = max(peak, float64(n-last)/now.Sub(at).Seconds())
			last, at = n, now
		}
		c.peak <- peak
	}()
	return c
}

func (c *counting) stop() float64 {
	c.cancel()
	return <-c.peak
}

// messages is how many an etcd has received since it began.
func messages(ctx context.Context, base string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return 0, err
	}
	var sum int64
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), "} ")
		if ok && strings.HasPrefix(name, "grpc_server_msg_received_total{") {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			sum += int64(n)
		}
	}
	return sum, nil
}
