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
	eventually(t, "requests are sent", func() bool { return l.total().Requests >= requests })
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
	if sum.Failed != 0 || sum.Resent != 0 || sum.Pause.For <= 0 || sum.Versions["1.0.0"] == 0 {
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

// TestLoadSendsNoRecordTwice fails if a record whose connection broke is
// sent again, which would hide the break.
func TestLoadSendsNoRecordTwice(t *testing.T) {
	var seen atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && seen.Add(1)%5 == 0 {
			panic(http.ErrAbortHandler)
		}
		good(w, r)
	}))
	defer server.Close()
	l := runLoad(t, server.URL, 400)
	var posts, failed int64
	for _, c := range l.clients {
		if c.posts {
			posts += c.total.Requests
			failed += c.total.Failed
			if c.total.Resent != 0 {
				t.Errorf("%s sent %d requests again", c.name, c.total.Resent)
			}
		}
	}
	if seen.Load() != posts || failed != posts/5 {
		t.Errorf("the server saw %d of %d requests, %d failed", seen.Load(), posts, failed)
	}
}
