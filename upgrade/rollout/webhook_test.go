package rollout

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
)

// told is what a webhook was told.
type told struct {
	mu      sync.Mutex
	records []Record
	keys    []string
}

func (w *told) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	var one Record
	if err != nil || json.Unmarshal(body, &one) != nil || r.Header.Get("Authorization") != "Bearer x" || digestOf(body) != r.Header.Get("Idempotency-Key") {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	w.keys = append(w.keys, r.Header.Get("Idempotency-Key"))
	if len(w.keys) == 1 {
		rw.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.records = append(w.records, one)
}

func (w *told) events() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return events(Past{Records: w.records})
}

func TestWebhookIsToldOfEachRecordInOrderAndAgainWhereItFailed(t *testing.T) {
	r := newRig(t)
	c := r.crew(3)
	w := &told{}
	server := httptest.NewServer(w)
	defer server.Close()
	stop := c.control("c1", func(cfg *ControllerConfig) {
		cfg.Webhooks = []Webhook{
			{URL: server.URL + "/secret", Header: map[string]string{"Authorization": "Bearer x"}},
			{URL: server.URL + "/secret", Events: []Event{EventStarted}}, // which is refused
		}
	})
	c.start(planOf("1.1.0"))
	c.becomes(Completed)
	waittest.Until(t, "it is told", func() bool { return w.events() == "started completed" })
	if w.keys[0] != w.keys[1] || w.keys[0] == w.keys[2] {
		t.Errorf("the same record does not have the same key: %q", w.keys)
	}
	waittest.Until(t, "the books have it", func() bool {
		v := r.status()
		return v.Books.Told == v.Plan.Seq
	})
	stop()
	if !r.log.Has("a webhook was not told of a rollout") || r.log.Has("secret") || !r.log.Has(strings.TrimPrefix(server.URL, "http://")) {
		t.Error("the log does not tell of the one that refused, or tells its path")
	}
}

func TestNextControllerTellsWhatTheOneBeforeDidNot(t *testing.T) {
	r := newRig(t)
	c := r.crew(1)
	reached := make(chan struct{})
	stop := c.control("c1", func(cfg *ControllerConfig) {
		cfg.Notify = func(ctx context.Context, _ Record) {
			close(reached)
			<-ctx.Done() // it is never told
		}
	})
	first := c.start(planOf("1.1.0"))
	c.becomes(Completed)
	waittest.Next(t, "it begins to tell", reached)
	stop()
	second := c.start(planOf("1.2.0"))
	heard := make(chan Record, 100)
	c.control("c2", func(cfg *ControllerConfig) { cfg.Notify = func(_ context.Context, one Record) { heard <- one } })
	c.becomes(Completed)
	for _, rollout := range []string{first.ID, second.ID} {
		for seq := int64(1); ; seq++ {
			one := waittest.Next(t, "it tells", heard)
			if one.Rollout != rollout || one.Seq != seq {
				t.Fatalf("in place of record %d of %s it tells of %d of %s", seq, rollout, one.Seq, one.Rollout)
			}
			if one.Event == EventCompleted {
				break
			}
		}
	}
}

func TestRecordThatCannotBeReadHoldsUpNoOther(t *testing.T) {
	r := newRig(t)
	r.start(planOf("1.1.0"))
	k := r.operator.keys
	for _, do := range []func(context.Context, Act) (Plan, error){r.operator.Pause, r.operator.Resume} {
		if _, err := do(t.Context(), Act{}); err != nil {
			t.Fatal(err)
		}
	}
	p := r.status().Plan
	if _, err := r.client.Put(t.Context(), k.record(p.ID, 2), "{"); err != nil {
		t.Fatal(err)
	}
	var seen []int64
	one, err := NewController(ControllerConfig{Client: r.client, ID: "c", Agents: r.crew(0), Notify: func(_ context.Context, r Record) { seen = append(seen, r.Seq) }})
	if err != nil {
		t.Fatal(err)
	}
	teller := newTeller(one, func() {})
	for range 2 {
		teller.follow(p, nil)
		for now, more := teller.next(); more; now, more = teller.next() {
			if err := teller.tell(t.Context(), now); err != nil {
				t.Fatal(err)
			}
		}
		if got := teller.told(p); got != 3 || len(seen) != 2 || seen[1] != 3 {
			t.Errorf("told up to %d: %v", got, seen)
		}
	}
}

func TestWebhookWithoutAUsableURLIsRefusedAndNotShown(t *testing.T) {
	for _, url := range []string{"", "ftp://host/secret", "http:///secret", "https://ho st/secret", ":secret", "/secret"} {
		if _, err := checkWebhooks([]Webhook{{URL: url}}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
	open := filepath.Join(t.TempDir(), "authorization")
	if err := os.WriteFile(open, []byte("Bearer secret"), 0o644); err != nil { //nolint:gosec // that is what is refused
		t.Fatal(err)
	}
	for _, h := range []Webhook{{URL: "http://host", AuthorizationFile: open}, {URL: "https://host", AuthorizationFile: open}, {URL: "https://host", AuthorizationFile: open + "2"}} {
		if _, err := checkWebhooks([]Webhook{h}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", h, err)
		}
	}
	if _, err := checkWebhooks([]Webhook{{URL: "https://host", Timeout: -1}}); err == nil {
		t.Error("a negative timeout is taken")
	}
	if _, err := checkWebhooks(make([]Webhook, maxWebhooks+1)); err == nil {
		t.Error("any number is taken")
	}
}
