package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const loadClients = 16

// load is clients that ask without a pause: half of them on connections that
// they keep and half on fresh ones, and half of each posting a record.
type load struct {
	url      string
	cancel   context.CancelFunc
	clients  sync.WaitGroup
	requests atomic.Int64
	failures atomic.Int64
	refused  atomic.Int64
	// The longest request of a kind, in nanoseconds.
	longestGet, longestPost atomic.Int64
	first                   atomic.Pointer[string]
}

func startLoad(ctx context.Context, url string) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{url: url, cancel: cancel}
	for n := range loadClients {
		transport := &http.Transport{DisableKeepAlives: n%2 == 0}
		client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
		l.clients.Go(func() {
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				l.ask(ctx, client, n%4 < 2)
			}
		})
	}
	return l
}

// ask makes one request. One that is in progress when the load ends is
// finished, so that it is not mistaken for a failure.
func (l *load) ask(ctx context.Context, client *http.Client, post bool) {
	ctx = context.WithoutCancel(ctx)
	longest := &l.longestGet
	method, path, body, want := http.MethodGet, "/v1/info", io.Reader(nil), http.StatusOK
	if post {
		longest = &l.longestPost
		method, path, body, want = http.MethodPost, "/v1/records", strings.NewReader(`{"bench":"a record that is about as long as a line of a log"}`), http.StatusAccepted
	}
	req, err := http.NewRequestWithContext(ctx, method, l.url+path, body)
	if err != nil {
		l.failed(err)
		return
	}
	began := time.Now()
	err = exchange(client, req, want)
	took := int64(time.Since(began))
	for most := longest.Load(); took > most && !longest.CompareAndSwap(most, took); {
		most = longest.Load()
	}
	l.requests.Add(1)
	if err != nil {
		l.failed(err)
	}
}

func exchange(client *http.Client, req *http.Request, want int) error {
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	err = errors.Join(err, res.Body.Close())
	if err == nil && res.StatusCode != want {
		err = fmt.Errorf("want %d, found %s", want, res.Status)
	}
	return err
}

func (l *load) failed(err error) {
	l.failures.Add(1)
	if errors.Is(err, syscall.ECONNREFUSED) {
		l.refused.Add(1)
	}
	text := err.Error()
	l.first.CompareAndSwap(nil, &text)
}

// await blocks until that many more requests have ended.
func (l *load) await(ctx context.Context, more int64) error {
	goal := l.requests.Load() + more
	return until(ctx, "answers under load", startLimit, func() bool { return l.requests.Load() >= goal })
}

func (l *load) stop() {
	l.cancel()
	l.clients.Wait()
}
