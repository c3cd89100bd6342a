package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/internal/waittest"
)

// load is clients that ask without a pause, on connections that they keep
// and on fresh ones, half of them posting records.
type load struct {
	site     *site
	cancel   context.CancelFunc
	clients  sync.WaitGroup
	requests atomic.Int64

	mu       sync.Mutex
	failures []string
	acked    []string
}

// startLoad runs clients without a pause until stop, which also judges.
func startLoad(t testing.TB, s *site) *load { return startClients(t, s, 8, 0) }

// startClients is startLoad with that many clients, each of which waits between
// two requests.
func startClients(t testing.TB, s *site, clients int, every time.Duration) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{site: s, cancel: cancel}
	for n := range clients {
		transport := &http.Transport{DisableKeepAlives: n%2 == 0}
		client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
		l.clients.Go(func() {
			defer transport.CloseIdleConnections()
			for i := 0; sleep.For(ctx, every) == nil; i++ {
				if n < clients/2 {
					l.post(client, fmt.Sprintf("%d-%d", n, i))
				} else {
					l.get(client)
				}
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		l.clients.Wait()
	})
	return l
}

// await blocks until that many more requests have been answered.
func (l *load) await(more int64) {
	l.site.t.Helper()
	goal := l.requests.Load() + more
	waittest.Until(l.site.t, "more requests are answered", func() bool { return l.requests.Load() >= goal })
}

func (l *load) post(client *http.Client, id string) {
	res, err := client.Post(l.site.url(l.site.listen, "/v1/records"), "application/x-ndjson", strings.NewReader(`{"id":"`+id+`"}`))
	if l.answered(res, err, http.StatusAccepted) {
		l.mu.Lock()
		l.acked = append(l.acked, id)
		l.mu.Unlock()
	}
}

func (l *load) get(client *http.Client) {
	res, err := client.Get(l.site.url(l.site.listen, "/v1/info"))
	l.answered(res, err, http.StatusOK)
}

func (l *load) answered(res *http.Response, err error, want int) bool {
	var body []byte
	if err == nil {
		body, err = io.ReadAll(res.Body)
		err = errors.Join(err, res.Body.Close())
	}
	if err == nil && res.StatusCode != want {
		err = fmt.Errorf("status %d: %s", res.StatusCode, body)
	}
	if err == nil && want == http.StatusOK && !json.Valid(body) {
		err = fmt.Errorf("no JSON: %s", body)
	}
	l.requests.Add(1)
	if err != nil {
		l.mu.Lock()
		l.failures = append(l.failures, err.Error())
		l.mu.Unlock()
	}
	return err == nil
}

// stop ends the clients and fails the test if one of them saw a failure, or
// a record that was acknowledged is not on disk exactly once.
func (l *load) stop() {
	t := l.site.t
	t.Helper()
	l.cancel()
	l.clients.Wait()
	if len(l.failures) > 0 {
		t.Errorf("%d of %d requests failed; the first: %s", len(l.failures), l.requests.Load(), l.failures[0])
	}
	stored := l.site.stored()
	for _, id := range l.acked {
		if stored[id] != 1 {
			t.Errorf("record %s was acknowledged and is there %d times", id, stored[id])
		}
	}
	t.Logf("%d requests, %d records acknowledged, %d stored", l.requests.Load(), len(l.acked), len(stored))
}
