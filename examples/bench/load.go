package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/perennial-go/perennial/examples/internal/sleep"
)

const loadClients = 16

// clientLimit is how long a client waits for an answer.
const clientLimit = 20 * time.Second

// load is clients that ask one request after the other: half of them on
// connections that they keep and half on fresh ones, and half of each posting
// a record.
type load struct {
	url      string
	pause    time.Duration // of each client after an answer
	ledger   *ledger
	cancel   context.CancelFunc
	running  sync.WaitGroup
	requests atomic.Int64
	clients  []*client

	mu       sync.Mutex
	failures int
	refused  int
	first    string            // the first failure
	answered map[int]time.Time // a process's first answer
}

// client is one of them. Its fields are its goroutine's until the load has
// been stopped.
type client struct {
	*load
	http    *http.Client
	posts   bool
	pid     int // who answered last
	samples []sample
	acked   []int64
}

// sample is one request that was answered.
type sample struct {
	at   time.Time // when it began
	took time.Duration
	post bool
}

func (s sample) end() time.Time { return s.at.Add(s.took) }

func startLoad(ctx context.Context, url string, pause time.Duration, ledger *ledger) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{url: url, pause: pause, ledger: ledger, cancel: cancel, answered: map[int]time.Time{}}
	for n := range loadClients {
		transport := &http.Transport{DisableKeepAlives: n%2 == 0}
		c := &client{load: l, posts: n%4 < 2, http: &http.Client{Transport: transport, Timeout: clientLimit}}
		l.clients = append(l.clients, c)
		l.running.Go(func() {
			defer transport.CloseIdleConnections()
			// Clients that pause must not do it all at the same time.
			for wait := pause * time.Duration(n) / loadClients; ctx.Err() == nil; wait = pause {
				if wait > 0 && sleep.For(ctx, wait) != nil {
					return
				}
				c.ask(ctx)
			}
		})
	}
	return l
}

// ask makes one request. One that is in progress when the load ends is
// finished, so that it is not mistaken for a failure.
func (c *client) ask(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	record := int64(0)
	method, path, body, want := http.MethodGet, "/v1/info", io.Reader(nil), http.StatusOK
	if c.posts {
		record = c.ledger.next.Add(1)
		method, path, want = http.MethodPost, "/v1/records", http.StatusAccepted
		body = strings.NewReader(fmt.Sprintf(`{"record":%d,"bench":"a record that is about as long as a line of a log"}`, record))
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		c.failed(err)
		return
	}
	// Without it net/http cannot send a record a second time: what a client
	// without that luxury would see as a failure is one here.
	req.GetBody = nil
	began := time.Now()
	answer, err := exchange(c.http, req, want)
	took := time.Since(began)
	c.requests.Add(1)
	if err != nil {
		c.failed(err)
		return
	}
	c.samples = append(c.samples, sample{began, took, c.posts})
	if c.posts {
		c.acked = append(c.acked, record)
	} else if pid := pidIn(answer); pid != c.pid {
		c.pid = pid
		c.saw(pid, began.Add(took))
	}
}

// exchange is one request and its whole answer, which must be the right one.
func exchange(client *http.Client, req *http.Request, want int) ([]byte, error) {
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(res.Body)
	err = errors.Join(err, res.Body.Close())
	if err == nil && res.StatusCode != want {
		err = fmt.Errorf("want %d, found %s", want, res.Status)
	}
	return answer, err
}

// pidIn reads what whoAnswers reads, at less cost; 0 if it is not there.
func pidIn(answer []byte) int {
	_, after, _ := bytes.Cut(answer, []byte(`"pid":`))
	digits := 0
	for digits < len(after) && after[digits] >= '0' && after[digits] <= '9' {
		digits++
	}
	pid, _ := strconv.Atoi(string(after[:digits]))
	return pid
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures++
	if errors.Is(err, syscall.ECONNREFUSED) {
		l.refused++
	}
	if l.first == "" {
		l.first = err.Error()
	}
}

func (l *load) saw(pid int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first, ok := l.answered[pid]; !ok || at.Before(first) {
		l.answered[pid] = at
	}
}

// successor waits for the first answer of another process than those in known.
func (l *load) successor(ctx context.Context, known map[int]bool) (pid int, at time.Time, err error) {
	err = until(ctx, "an answer of a successor under load", startLimit, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for pid, at = range l.answered {
			if !known[pid] {
				return true
			}
		}
		return false
	})
	return pid, at, err
}

// seen adds every process that has answered.
func (l *load) seen(known map[int]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for pid := range l.answered {
		known[pid] = true
	}
}

// await blocks until that many more requests have ended.
func (l *load) await(ctx context.Context, more int64) error {
	goal := l.requests.Load() + more
	return until(ctx, "answers under load", startLimit, func() bool { return l.requests.Load() >= goal })
}

// stop waits for the requests in progress. It may be called again.
func (l *load) stop() {
	l.cancel()
	l.running.Wait()
	for _, c := range l.clients {
		l.ledger.acknowledge(c.acked)
		c.acked = nil
	}
}

// each visits every request that was answered, after stop.
func (l *load) each(visit func(sample)) {
	for _, c := range l.clients {
		for _, s := range c.samples {
			visit(s)
		}
	}
}

// longest is the longest GET or POST, after stop.
func (l *load) longest(post bool) (most time.Duration) {
	l.each(func(s sample) {
		if s.post == post {
			most = max(most, s.took)
		}
	})
	return most
}
