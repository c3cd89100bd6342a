package config_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/etcdtest"
)

// TestHistoryKeepsTheNewestTwenty: without it nobody can go back, without the
// bound etcd fills up.
func TestHistoryKeepsTheNewestTwenty(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	if _, err := config.Get(t.Context(), c, "", "global"); !errors.Is(err, config.ErrNotFound) {
		t.Errorf("nothing published: want ErrNotFound, got %v", err)
	}
	publish(t, c, "group/g", "other: scope")
	var revisions []int64
	for i := range 30 {
		revisions = append(revisions, publish(t, c, "global", fmt.Sprintf("n: %d", i)))
	}
	current, err := config.Get(t.Context(), c, "", "global")
	if err != nil || string(current.Data) != "n: 29" || current.Revision != revisions[29] || current.Scope != "global" {
		t.Errorf("current: %+v, %v", current, err)
	}
	past, err := config.History(t.Context(), c, "", "global")
	if err != nil || len(past.Documents) != config.HistorySize {
		t.Fatalf("want %d earlier documents, got %d, %v", config.HistorySize, len(past.Documents), err)
	}
	for i, d := range past.Documents {
		if n := 28 - i; string(d.Data) != fmt.Sprintf("n: %d", n) || d.Revision != revisions[n] {
			t.Errorf("%d before the current one: %+v", i+1, d)
		}
	}
	r, err := c.Get(t.Context(), "/agents/config-history/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || r.Count != config.HistorySize {
		t.Errorf("want %d keys in etcd, got %d, %v", config.HistorySize, r.Count, err)
	}
}

// TestConcurrentPublishersLoseNothing: what was in force for a moment must be
// in the history, whoever replaced it.
func TestConcurrentPublishersLoseNothing(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if _, err := config.Put(t.Context(), c, "/root", "global", fmt.Appendf(nil, "n: %d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	current, err := config.Get(t.Context(), c, "/root/", "global")
	if err != nil {
		t.Fatal(err)
	}
	past, err := config.History(t.Context(), c, "root", "global")
	if err != nil {
		t.Fatal(err)
	}
	earlier := past.Documents
	seen := map[string]bool{}
	for _, d := range append(earlier, current) {
		seen[string(d.Data)] = true
	}
	if len(seen) != 4 || len(earlier) != 3 {
		t.Errorf("of 4 documents %d are found: %v", len(seen), seen)
	}
}

// TestTwoLargeDocumentsFit: etcd takes 1.5 MiB at once, less than a large
// document and its predecessor.
func TestTwoLargeDocumentsFit(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	large := "a: " + strings.Repeat("x", config.DefaultMaxBytes-3)
	publish(t, c, "global", large)
	publish(t, c, "global", large)
	if past, err := config.History(t.Context(), c, "", "global"); err != nil || len(past.Documents) != 1 || len(past.Documents[0].Data) != len(large) {
		t.Errorf("got %d documents, %v", len(past.Documents), err)
	}
}

func TestPutRefusesWhatIsNoDocument(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	for _, bad := range []struct{ name, scope, document, reason string }{
		{"malformed", "global", "a: [", "line 1"},
		{"no mapping", "global", "[1]", "a list"},
		{"empty", "global", "", "it is empty"},
		{"oversized", "global", "a: " + strings.Repeat("x", config.DefaultMaxBytes), "want at most 1568768"},
		{"alias bomb", "global", bomb(), "aliases"},
		{"no scope", "", "{}", "want global, group/<group> or agent/<agent-id>"},
		{"unknown scope", "host/a", "{}", "want global"},
		{"group without a name", "group/", "{}", `id ""`},
		{"scope that escapes", "agent/../../plan/x", "{}", "want a letter or digit"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			_, err := config.Put(t.Context(), c, "", bad.scope, []byte(bad.document))
			if err == nil || !strings.Contains(err.Error(), bad.reason) {
				t.Errorf("want an error that says %q, got %v", bad.reason, err)
			}
		})
	}
	r, err := c.Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil || r.Count != 0 {
		t.Errorf("want nothing written, found %d keys, %v", r.Count, err)
	}
}
