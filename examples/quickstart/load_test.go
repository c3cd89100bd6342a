package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
)

// good answers as agentd does.
func good(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		_, _ = fmt.Fprint(w, `{"version":"1.0.0"}`)
		return
	}
	body, _ := io.ReadAll(r.Body)
	w.WriteHeader(http.StatusAccepted)
	_, _ = fmt.Fprintf(w, `{"accepted":%d}`, bytes.Count(body, []byte{'\n'}))
}

func runLoad(t *testing.T, url string, requests int64) *load {
	t.Helper()
	l := startLoad(url, 8)
	defer l.stop()
	waittest.Until(t, "requests are sent", func() bool { return l.total().Requests >= requests })
	return l
}

func TestLoadCountsWhatIsAnswered(t *testing.T) {
	var posted atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posted.Add(1)
		}
		good(w, r)
	}))
	defer server.Close()
	l := runLoad(t, server.URL, 400)
	sum := l.total()
	if sum.Failed != 0 || sum.Pause.For <= 0 || sum.Versions["1.0.0"] == 0 {
		t.Errorf("found %+v", sum)
	}
	acked := int64(0)
	for _, yes := range l.acknowledged() {
		if yes {
			acked++
		}
	}
	if acked != 4*posted.Load() {
		t.Errorf("%d records acknowledged in %d requests of 4", acked, posted.Load())
	}
	if since, again := l.mark("a"), l.mark("b"); since.Requests != sum.Requests || again.Requests != 0 {
		t.Errorf("marks count %d and then %d, want %d and 0", since.Requests, again.Requests, sum.Requests)
	}
}

// TestLoadHidesNoFailure fails if an answer that is missing or wrong counts
// as a good one, or its records as acknowledged.
func TestLoadHidesNoFailure(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"status 503":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"no answer":           func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"answer without JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "fine") },
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			good(w, r)
		},
		"another number of records": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusAccepted)
			}
			_, _ = fmt.Fprint(w, `{"accepted":3}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(answer)
			defer server.Close()
			l := runLoad(t, server.URL, 16)
			if sum := l.total(); sum.Failed != sum.Requests || len(sum.Failures) == 0 {
				t.Errorf("found %+v", sum)
			}
			for n, yes := range l.acknowledged() {
				if yes {
					t.Errorf("record %d counts as acknowledged", n)
				}
			}
		})
	}
}

func TestLoadTellsRefusedConnections(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(good))
	server.Close()
	if sum := runLoad(t, server.URL, 16).total(); sum.Refused != sum.Requests || !strings.Contains(sum.Failures[0].Error, "refused") {
		t.Errorf("found %+v", sum)
	}
}

// TestLoadHidesNoBrokenConnection fails if a request whose connection broke
// is sent again in silence, as net/http does with those that are idempotent,
// or a record is sent twice.
func TestLoadHidesNoBrokenConnection(t *testing.T) {
	var seen, broken, posted atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := seen.Add(1)
		if r.Method == http.MethodPost {
			posted.Add(1)
		}
		if n > 100 && n%50 < 5 {
			broken.Add(1)
			panic(http.ErrAbortHandler)
		}
		good(w, r)
	}))
	defer server.Close()
	l := runLoad(t, server.URL, 1000)
	var posts, failed int64
	for _, c := range l.clients {
		failed += c.total.Failed
		if c.posts {
			posts += c.total.Requests
		}
	}
	if posted.Load() != posts {
		t.Errorf("%d requests with records reached the server, %d were sent", posted.Load(), posts)
	}
	if failed == 0 || failed > broken.Load() || broken.Load() > 2*failed {
		t.Errorf("%d connections were broken, %d failures counted", broken.Load(), failed)
	}
}
