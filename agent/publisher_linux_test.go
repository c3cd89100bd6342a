package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestStatusIsWrittenAtItsBeatAndWhenAFactChanges: 10,000 agents that write
// whenever a figure moves are load on etcd for ever, and one that waits for its
// beat with bad news is found too late.
func TestStatusIsWrittenAtItsBeatAndWhenAFactChanges(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	const every = 400 * time.Millisecond
	p := presentAs(t, server.URL(), func(cfg *Config) { cfg.StatusEvery, cfg.Spread = every, time.Millisecond })
	flush := func(what string, beat, want bool) {
		t.Helper()
		if told, err := p.flush(t.Context(), beat); err != nil || told != want {
			t.Errorf("%s: written: %t, %v; want %t", what, told, err, want)
		}
	}
	flush("the first", false, true)
	p.health.Observe(health.HeartbeatLatency, 0.5)
	flush("a figure", false, false)
	p.health.Set("spool", errors.New("20 % are left"))
	flush("a condition", false, true)
	p.health.Set("spool", errors.New("19 % are left"))
	flush("other words of it", false, false)
	p.lifecycle.set(Running, "serving")
	flush("another state", false, true)
	flush("a beat", true, true)

	// The loop, as etcd sees it.
	key := p.registry.keys.status(p.cfg.ID)
	writes := server.Client(t).Watch(t.Context(), key)
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() {
		if err := p.publish(ctx); err != nil {
			t.Error(err)
		}
	})
	run.Go(func() { // whatever asks for a look, a hundred times a second
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			p.health.Observe(health.HeartbeatLatency, 0.001*float64(time.Now().UnixMilli()%1000))
			p.touch()
			p.touchSoon()
			<-tick.C
		}
	})
	defer run.Wait()
	defer stop()
	var before time.Time
	for n := 0; n < 5; {
		for _, event := range waittest.Next(t, "a write", writes).Events {
			var s Status
			if err := decode(key, event.Kv.Value, &s); err != nil {
				t.Fatal(err)
			}
			// The phase of the first beat is random; the others keep their distance.
			if gap := s.At.Sub(before); n > 1 && gap < every*3/4 {
				t.Errorf("a status %v after the one before, with nothing new in it", gap)
			}
			before, n = s.At, n+1
		}
	}
}

// TestTreeIsServedAsJSONAndText: an operator reads it with curl, a program as JSON.
func TestTreeIsServedAsJSONAndText(t *testing.T) {
	t.Parallel()
	p := present(t, etcdtest.Start(t).URL())
	get := func(url, accept string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, url, nil)
		r.Header.Set("Accept", accept)
		p.serveStatus(w, r)
		return w
	}
	var status Status
	if w := get("/v1/status", "*/*"); json.Unmarshal(w.Body.Bytes(), &status) != nil || status.Tree == nil {
		t.Errorf("%s", w.Body)
	} else if tree := status.Tree; tree.Name != p.cfg.ID || tree.Child(nodeRegistration) == nil || tree.Child(nodeChecks) == nil {
		t.Errorf("%s", w.Body)
	}
	for _, w := range []*httptest.ResponseRecorder{get("/v1/status?format=text", ""), get("/v1/status", "text/plain")} {
		if !strings.HasPrefix(w.Body.String(), p.cfg.ID) || !strings.Contains(w.Body.String(), "├ registration present") {
			t.Errorf("%s", w.Body)
		}
	}
	if w := get("/v1/status?format=xml", ""); w.Code != http.StatusBadRequest {
		t.Errorf("a form that is none is answered with %d", w.Code)
	}
}
