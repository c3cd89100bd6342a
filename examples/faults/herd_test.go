package faults

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// herd is as much of many agents as etcd sees of them: each has a connection,
// a watch, and a lease with a key.
type herd struct {
	testing.TB
	members []*sheep
	late    atomic.Int64 // members that have yet to hear of what is awaited
	awaited atomic.Pointer[string]
	tooMany atomic.Int64 // refusals because of too many requests
}

type sheep struct {
	*herd
	id string

	mu     sync.Mutex
	values map[string]string
	beat   time.Time // the last that was answered
	right  time.Time // when what is awaited was there
}

const herdPrefix = "/herd/"

func (h *herd) add(ctx context.Context, wg *sync.WaitGroup, url string) {
	h.Helper()
	s := &sheep{herd: h, id: strconv.Itoa(len(h.members))}
	h.members = append(h.members, s)
	client, err := etcdkv.Dial(etcdkv.ClientConfig{Endpoints: []string{url}})
	if err != nil {
		h.Fatal(err)
	}
	watch, err := etcdkv.NewWatch(etcdkv.WatchConfig{Client: client, Prefixes: []string{herdPrefix}, OnChange: s.changed})
	if err != nil {
		h.Fatal(err)
	}
	session, err := etcdkv.NewSession(etcdkv.SessionConfig{
		Client: client, TTL: 30 * time.Second, Interval: 5 * time.Second,
		OnLease: func(ctx context.Context, lease int64) error {
			_, err := client.Put(ctx, "/present/"+s.id, "", clientv3.WithLease(clientv3.LeaseID(lease)))
			return err
		},
		OnBeat: s.beats,
	})
	if err != nil {
		h.Fatal(err)
	}
	wg.Go(func() {
		defer func() { _ = client.Close() }()
		var both sync.WaitGroup
		both.Go(func() { _ = watch.Run(ctx) }) // until ctx ends
		both.Go(func() { _ = session.Run(ctx) })
		both.Wait()
	})
}

func (s *sheep) changed(v etcdkv.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = map[string]string{}
	for k, value := range v.Values {
		s.values[k] = string(value.Data)
	}
	s.look()
}

func (s *sheep) beats(_ time.Duration, err error) {
	if err != nil {
		if strings.Contains(err.Error(), "too many requests") {
			s.tooMany.Add(1)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beat = time.Now()
	s.look()
}

// look notes when both halves are right: what is awaited has arrived, and the
// lease was renewed since it was asked for.
func (s *sheep) look() {
	want := s.awaited.Load()
	if want == nil || !s.right.IsZero() || s.values[herdPrefix+"awaited"] != *want || s.beat.IsZero() {
		return
	}
	s.right = time.Now()
	s.late.Add(-1)
}

// expect has the whole herd wait for a value, and a renewal, from now on.
func (h *herd) expect(value string) {
	for _, s := range h.members {
		s.mu.Lock()
		s.right, s.beat = time.Time{}, time.Time{}
	}
	h.late.Store(int64(len(h.members)))
	h.awaited.Store(&value)
	for _, s := range h.members {
		s.mu.Unlock()
	}
}

// arrives waits until the whole herd is right, and returns how long after since
// the last was.
func (h *herd) arrives(since time.Time) time.Duration {
	h.Helper()
	waittest.Until(h, "the whole herd is right", func() bool { return h.late.Load() == 0 })
	var last time.Time
	for _, s := range h.members {
		s.mu.Lock()
		if s.right.After(last) {
			last = s.right
		}
		s.mu.Unlock()
	}
	return last.Sub(since)
}

// TestThousandWatchersThatReconnectAtOnceLoseNothingAndNoLease: etcd is killed
// under a whole fleet, and comes back. It needs the processors for itself, so
// that it runs beside none of the other faults.
func TestThousandWatchersThatReconnectAtOnceLoseNothingAndNoLease(t *testing.T) {
	const size = 1000
	server := etcdtest.Start(t)
	operator := server.Client(t)
	const changes = 20
	change := func(to string) {
		ops := []clientv3.Op{clientv3.OpPut(herdPrefix+"awaited", to)}
		for i := range changes {
			ops = append(ops, clientv3.OpPut(herdPrefix+strconv.Itoa(i), to))
		}
		waittest.Nil(t, "etcd takes the changes", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := operator.Txn(ctx).Then(ops...).Commit()
			return err
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	h := &herd{TB: t}
	began := time.Now()
	for range size {
		h.add(ctx, &wg, server.URL())
	}
	h.expect("the start")
	change("the start")
	started := h.arrives(began)
	waittest.Until(t, "the whole herd is present", func() bool { return present(t, operator) == size })
	leases := holders(t, operator)

	requests := watchRequests(t, server.URL())
	server.Kill()
	killed := time.Now()
	h.expect("the end")
	lasts(t, 3*time.Second)
	server.Restart()
	back := time.Now()
	operator = server.Client(t) // which has no reason to wait before it connects
	change("the end")
	written := time.Since(back)
	took := h.arrives(back)
	peak := requests()

	lost := 0
	for _, s := range h.members {
		s.mu.Lock()
		for i := range changes {
			if s.values[herdPrefix+strconv.Itoa(i)] != "the end" {
				lost++
			}
		}
		s.mu.Unlock()
	}
	gone := size - same(leases, holders(t, operator))
	if lost > 0 || gone > 0 || h.tooMany.Load() > 0 {
		t.Errorf("%d changes lost, %d leases lost, refused %d times", lost, gone, h.tooMany.Load())
	}
	// A watch that only its own silence wakes up needs more than a minute.
	if limit := 30 * time.Second; took > limit {
		t.Errorf("the last of the herd was right %v after etcd served again, want %v", took, limit)
	}
	report(t, fmt.Sprintf("FAULT %d watchers reconnecting at once, %.1f s long: connected in %.1f s at first; all right again %.1f s after etcd served, which took the last change after %.1f s; %d of %d registrations lost, %d of %d changes lost, at most %d requests in a second, refused %d times",
		size, back.Sub(killed).Seconds(), started.Seconds(), took.Seconds(), written.Seconds(), gone, size, lost, size*changes, peak, h.tooMany.Load()))
}

func present(t *testing.T, c *clientv3.Client) int64 {
	t.Helper()
	r, err := c.Get(t.Context(), "/present/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return r.Count
}

// holders returns the lease and the revision of each member's key.
func holders(t *testing.T, c *clientv3.Client) map[string][2]int64 {
	t.Helper()
	r, err := c.Get(t.Context(), "/present/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][2]int64{}
	for _, kv := range r.Kvs {
		all[string(kv.Key)] = [2]int64{kv.Lease, kv.CreateRevision}
	}
	return all
}

func same(before, after map[string][2]int64) int {
	n := 0
	for k, v := range before {
		if after[k] == v {
			n++
		}
	}
	return n
}

// watchRequests counts, by etcd's own figures, what it is asked. The function
// that it returns tells the most in one second.
func watchRequests(t *testing.T, url string) (peak func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan int, 1)
	go func() {
		var samples []int
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if n, err := started(ctx, url); err == nil {
					samples = append(samples, n)
				}
			case <-ctx.Done():
				result <- steepest(samples)
				return
			}
		}
	}()
	return func() int {
		cancel()
		return <-result
	}
}

// steepest is the greatest rise within ten samples. A restarted etcd counts
// from zero.
func steepest(samples []int) int {
	most := 0
	for i := range samples {
		for _, before := range samples[max(0, i-10):i] {
			if samples[i] >= before {
				most = max(most, samples[i]-before)
			} else {
				most = max(most, samples[i])
			}
		}
	}
	return most
}

// started sums up the calls, and the messages on streams, that etcd has
// received.
func started(ctx context.Context, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	total := 0
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "grpc_server_msg_received_total{"); ok {
			n, err := strconv.ParseFloat(rest[strings.LastIndex(rest, " ")+1:], 64)
			if err != nil {
				return 0, err
			}
			total += int(n)
		}
	}
	return total, nil
}
