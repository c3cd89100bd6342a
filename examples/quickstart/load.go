package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/perennial-go/perennial/examples/internal/sleep"
)

// requestLimit is how long a client waits for an answer: far longer than
// any pause that would be forgiven, so that a pause shows as what it is.
const requestLimit = 30 * time.Second

// errBroken is a failure that another client than net/http's would have seen.
var errBroken = errors.New("the connection broke, and net/http sent the request again")

// load is clients that ask without a pause. Nothing is tried twice, and each
// request counts once, as answered or as failed. A nil load counts nothing.
type load struct {
	url     string
	next    atomic.Int64 // number of the newest record
	stopped context.CancelFunc
	running sync.WaitGroup
	clients []*client
}

// client is one of them.
type client struct {
	load  *load
	name  string
	posts bool
	http  *http.Client

	mu    sync.Mutex
	total tally
	since tally // since the last mark
	step  string
	last  time.Time // when the newest answer had been read
	acked []span
}

// span is the records of one acknowledged request.
type span struct {
	first int64
	count int
}

// startLoad begins with n clients, a quarter of each kind.
func startLoad(url string, n int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{url: url, stopped: cancel}
	for i := range n {
		fresh, posts := i%2 == 0, i%4 < 2
		kind, method := "keep-alive", http.MethodGet
		if fresh {
			kind = "fresh"
		}
		if posts {
			method = http.MethodPost
		}
		c := &client{load: l, posts: posts, last: time.Now(), name: kind + " " + method}
		c.http = &http.Client{Timeout: requestLimit, Transport: &http.Transport{DisableKeepAlives: fresh, MaxIdleConnsPerHost: 1}}
		l.clients = append(l.clients, c)
		l.running.Go(func() {
			defer c.http.CloseIdleConnections()
			for ctx.Err() == nil {
				if c.ask() != nil {
					_ = sleep.For(ctx, 20*time.Millisecond) // so that it does not spin
				}
			}
		})
	}
	return l
}

// stop lets every request that is under way come to its end.
func (l *load) stop() {
	if l != nil {
		l.stopped()
		l.running.Wait()
	}
}

// mark returns what happened since the last mark and names what comes now.
func (l *load) mark(step string) tally {
	var sum tally
	l.each(func(c *client) {
		sum.add(c.since)
		c.since, c.step = tally{}, step
	})
	return sum
}

// total returns what has happened since the beginning.
func (l *load) total() tally {
	var sum tally
	l.each(func(c *client) { sum.add(c.total) })
	return sum
}

// each calls f with every client, locked.
func (l *load) each(f func(*client)) {
	if l == nil {
		return
	}
	for _, c := range l.clients {
		c.mu.Lock()
		f(c)
		c.mu.Unlock()
	}
}

// acknowledged returns a mark for each record number that was acknowledged.
// It is called after stop.
func (l *load) acknowledged() []bool {
	marks := make([]bool, l.next.Load()+1)
	for _, c := range l.clients {
		for _, s := range c.acked {
			for i := range int64(s.count) {
				marks[s.first+i] = true
			}
		}
	}
	return marks
}

// ask sends one request and books how it ended.
func (c *client) ask() error {
	sent := span{}
	if c.posts {
		sent.count = 4
		sent.first = c.load.next.Add(int64(sent.count)) - int64(sent.count) + 1
	}
	tries := 0
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { tries++ }})
	version, err := c.exchange(ctx, sent)
	if err == nil && tries > 1 {
		err = errBroken
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range []*tally{&c.total, &c.since} {
		t.Requests++
		if err != nil {
			t.fail(failure{At: now, Client: c.name, Step: c.step, Error: err.Error()}, errors.Is(err, syscall.ECONNREFUSED))
			continue
		}
		t.Pause.worst(pause{For: now.Sub(c.last), Client: c.name, Step: c.step})
		if version != "" {
			t.saw(version, 1)
		}
	}
	if err == nil {
		c.last = now
		if c.posts {
			c.acked = append(c.acked, sent)
		}
	}
	return err
}

// exchange is one request and its whole answer, which must be the right one.
func (c *client) exchange(ctx context.Context, sent span) (version string, err error) {
	req, err := c.request(ctx, sent)
	if err != nil {
		return "", err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return "", fmt.Errorf("%s %s: answer: %w", req.Method, req.URL, err)
	}
	var answer struct {
		Accepted int    `json:"accepted"`
		Version  string `json:"version"`
	}
	want := http.StatusOK
	if c.posts {
		want = http.StatusAccepted
	}
	if res.StatusCode != want {
		return "", fmt.Errorf("%s %s: want status %d, found %d: %.200s", req.Method, req.URL, want, res.StatusCode, body)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", fmt.Errorf("%s %s: want JSON, found %.200q: %w", req.Method, req.URL, body, err)
	}
	if answer.Accepted != sent.count || (!c.posts && answer.Version == "") {
		return "", fmt.Errorf("%s %s: want %d records accepted or the version, found %.200s", req.Method, req.URL, sent.count, body)
	}
	return answer.Version, nil
}

func (c *client) request(ctx context.Context, sent span) (*http.Request, error) {
	if !c.posts {
		return http.NewRequestWithContext(ctx, http.MethodGet, c.load.url+"/v1/info", http.NoBody)
	}
	var body bytes.Buffer
	for i := range int64(sent.count) {
		fmt.Fprintf(&body, `{"source":"quickstart","record":%d,"client":%q}`+"\n", sent.first+i, c.name)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.load.url+"/v1/records", &body)
	if err == nil {
		// Without it net/http cannot send the request a second time, not
		// even where it would be safe.
		req.GetBody = nil
		req.Header.Set("Content-Type", "application/x-ndjson")
	}
	return req, err
}
