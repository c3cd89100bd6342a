package config_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/failpoint"
)

// change publishes as somebody, for a reason.
func change(t *testing.T, c *clientv3.Client, scope, document string, replaces int64) int64 {
	t.Helper()
	revision, err := config.Publish(t.Context(), c, "", []byte(document), config.Change{Scope: scope, Replaces: replaces, By: "op@host", Message: "for " + document})
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// brief is the history in short, with revisions as they were counted.
func brief(documents []config.Document, number map[int64]int) string {
	var all []string
	for _, d := range documents {
		text := fmt.Sprintf("%d %q by %q", number[d.Revision], d.Data, d.By)
		if d.Deleted {
			text += " deleted"
		}
		if d.Restores > 0 {
			text += fmt.Sprintf(" restores %d", number[d.Restores])
		}
		all = append(all, text)
	}
	return strings.Join(all, "\n")
}

// TestHistoryTellsWhoWhenAndWhy through replacing, deleting and rolling back;
// what older versions and other tools wrote is among it.
func TestHistoryTellsWhoWhenAndWhy(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	// As the first version left it: a document and one before it.
	first := putRaw(t, c, "/agents/config/global", "n: 1")
	putRaw(t, c, fmt.Sprintf("/agents/config-history/global/%d", first), "n: 1")
	second := putRaw(t, c, "/agents/config/global", "n: 2")
	began := time.Now().Add(-time.Second)
	third := change(t, c, "global", "n: 3", second)
	deleted, err := config.Delete(t.Context(), c, "", config.Change{Scope: "global", Replaces: third, By: "cleaner"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Delete(t.Context(), c, "", config.Change{Scope: "global", Replaces: config.AnyRevision}); !errors.Is(err, config.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if d, err := config.Latest(t.Context(), c, "", "global"); err != nil || !d.Deleted || d.Revision != deleted || d.By != "cleaner" {
		t.Errorf("after the deletion: %+v, %v", d, err)
	}
	back, err := config.Rollback(t.Context(), c, "", 0, config.Change{Scope: "global", By: "op@host"})
	if err != nil {
		t.Fatal(err)
	}
	further, err := config.Rollback(t.Context(), c, "", first, config.Change{Scope: "global", Replaces: back, By: "op@host"})
	if err != nil {
		t.Fatal(err)
	}
	now, err := config.Get(t.Context(), c, "", "global")
	if err != nil || string(now.Data) != "n: 1" || now.Revision != further || now.Restores != first || now.By != "op@host" || now.At.Before(began) {
		t.Errorf("now: %+v, %v", now, err)
	}
	past, err := config.History(t.Context(), c, "", "global")
	number := map[int64]int{first: 1, second: 2, third: 3, deleted: 4, back: 5}
	want := `5 "n: 3" by "op@host" restores 3
4 "" by "cleaner" deleted
3 "n: 3" by "op@host"
2 "n: 2" by ""
1 "n: 1" by ""`
	if got := brief(past.Documents, number); err != nil || got != want {
		t.Errorf("history: %v\n%s\nwant\n%s", err, got, want)
	}
	if d := past.Documents[2]; d.Message != "for n: 3" || d.At.Before(began) {
		t.Errorf("entry: %+v", d)
	}
	if _, err := config.Rollback(t.Context(), c, "", deleted, config.Change{Scope: "global", Replaces: further}); err == nil || !strings.Contains(err.Error(), "is a deletion") {
		t.Errorf("back to a deletion: %v", err)
	}
	if _, err := config.GetRevision(t.Context(), c, "", "global", further+100); !errors.Is(err, config.ErrNotFound) || !strings.Contains(err.Error(), fmt.Sprint(second)) {
		t.Errorf("want the revisions that there are named, got %v", err)
	}
}

// TestChangeOfWhatIsNoLongerThereIsRefused, with who was faster: neither may
// overwrite the other unseen.
func TestChangeOfWhatIsNoLongerThereIsRefused(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	first := change(t, c, "global", "n: 1", 0)
	second := change(t, c, "global", "n: 2", first)
	for name, try := range map[string]func(replaces int64) error{
		"publish": func(r int64) error {
			_, err := config.Publish(t.Context(), c, "", []byte("n: 3"), config.Change{Scope: "global", Replaces: r})
			return err
		},
		"delete": func(r int64) error {
			_, err := config.Delete(t.Context(), c, "", config.Change{Scope: "global", Replaces: r})
			return err
		},
		"rollback": func(r int64) error {
			_, err := config.Rollback(t.Context(), c, "", first, config.Change{Scope: "global", Replaces: r})
			return err
		},
	} {
		for _, replaces := range []int64{0, first, second + 7} {
			err := try(replaces)
			conflict, ok := errors.AsType[*config.ConflictError](err)
			if !ok || !errors.Is(err, config.ErrConflict) || conflict.Found.Revision != second || !strings.Contains(err.Error(), "by op@host at 20") {
				t.Errorf("%s over %d: %v", name, replaces, err)
			}
		}
	}
	if d, err := config.Get(t.Context(), c, "", "global"); err != nil || d.Revision != second {
		t.Errorf("changed to %+v, %v", d, err)
	}
	// Of several at the same revision one wins.
	var won sync.Map
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			revision, err := config.Publish(t.Context(), c, "", fmt.Appendf(nil, "by: %d", i), config.Change{Scope: "global", Replaces: second})
			if err == nil {
				won.Store(i, revision)
			} else if !errors.Is(err, config.ErrConflict) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	count := 0
	won.Range(func(i, revision any) bool {
		count++
		if d, err := config.Get(t.Context(), c, "", "global"); err != nil || string(d.Data) != fmt.Sprintf("by: %d", i) || d.Revision != revision {
			t.Errorf("%v won, and %+v is there, %v", i, d, err)
		}
		return true
	})
	if count != 1 {
		t.Errorf("%d of 8 changes to one revision were made", count)
	}
}

// TestPublisherThatIsKilledBetweenItsTransactions leaves what was there, once,
// and is in nobody's way. The test runs itself as the publisher.
func TestPublisherThatIsKilledBetweenItsTransactions(t *testing.T) {
	const variable = "CONFIG_TEST_PUBLISHER"
	if url := os.Getenv(variable); url != "" {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{url}})
		if err == nil {
			err = failpoint.Arm("config-remembered=kill")
		}
		if err == nil {
			_, err = config.Put(t.Context(), c, "", "global", []byte("n: never"))
		}
		t.Fatalf("it lives: %v", err)
	}
	server := etcdtest.Start(t)
	c := server.Client(t)
	first := change(t, c, "global", "n: 1", 0)
	second := change(t, c, "global", "n: 2", first)
	for range 2 { // the second finds what the first has left
		self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		self.Env = append(os.Environ(), variable+"="+server.URL())
		out, err := self.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ProcessState.Exited() {
			t.Fatalf("the publisher was not killed: %v\n%s", err, out)
		}
		if d, err := config.Get(t.Context(), c, "", "global"); err != nil || d.Revision != second || string(d.Data) != "n: 2" || d.By != "op@host" {
			t.Errorf("there is %+v, %v", d, err)
		}
		if r, err := c.Get(t.Context(), fmt.Sprintf("/agents/config-history/global/%d", second)); err != nil || len(r.Kvs) != 1 {
			t.Errorf("the publisher was killed before it came to it: %v, %v", r, err)
		}
		past, err := config.History(t.Context(), c, "", "global")
		if got := brief(past.Documents, map[int64]int{first: 1, second: 2}); err != nil || got != `1 "n: 1" by "op@host"` {
			t.Errorf("history: %v\n%s", err, got)
		}
	}
	third := change(t, c, "global", "n: 3", second)
	past, err := config.History(t.Context(), c, "", "global")
	want := "2 \"n: 2\" by \"op@host\"\n1 \"n: 1\" by \"op@host\""
	if got := brief(past.Documents, map[int64]int{first: 1, second: 2, third: 3}); err != nil || got != want {
		t.Errorf("history: %v\n%s", err, got)
	}
}

// TestHundredThousandForeignKeysInTheHistory must neither keep anybody from
// publishing nor hide what belongs there.
func TestHundredThousandForeignKeysInTheHistory(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	first := change(t, c, "global", "n: 1", 0)
	second := change(t, c, "global", "n: 2", first)
	const junk = 100_000
	var writers sync.WaitGroup
	batches := make(chan int)
	for range 4 {
		writers.Go(func() {
			for from := range batches {
				ops := make([]clientv3.Op, 100)
				for i := range ops {
					ops[i] = clientv3.OpPut(fmt.Sprintf("/agents/config-history/global/%08d", from+i), "\xff")
				}
				if _, err := c.Txn(t.Context()).Then(ops...).Commit(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for from := 0; from < junk; from += 100 {
		batches <- from
	}
	close(batches)
	writers.Wait()
	// Canonical numbers that etcd has not reached are foreign as well.
	putRaw(t, c, "/agents/config-history/global/99999999999", "n: fake")
	began := time.Now()
	third := change(t, c, "global", "n: 3", second)
	published := time.Since(began)
	began = time.Now()
	past, err := config.History(t.Context(), c, "", "global")
	if err != nil || past.Foreign != junk+1 || past.ForeignKey == "" || past.Incomplete {
		t.Errorf("%d foreign keys, such as %q, incomplete %v, %v", past.Foreign, past.ForeignKey, past.Incomplete, err)
	}
	if got := brief(past.Documents, map[int64]int{first: 1, second: 2, third: 3}); got != "2 \"n: 2\" by \"op@host\"\n1 \"n: 1\" by \"op@host\"" {
		t.Errorf("history:\n%s", got)
	}
	t.Logf("published in %v, history read in %v", published, time.Since(began))
}

// TestLargestDocumentFitsWithTheLongestRecord: the limit that is told is the
// one that holds.
func TestLargestDocumentFitsWithTheLongestRecord(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	largest := []byte("a: " + strings.Repeat("x", config.DefaultMaxBytes-3))
	scope := "group/" + strings.Repeat("g", 128)
	longest := config.Change{Scope: scope, Replaces: config.AnyRevision, By: strings.Repeat(`"`, 256), Message: strings.Repeat(`<`, 256) + strings.Repeat(`"`, 256)}
	for range 2 {
		if _, err := config.Publish(t.Context(), c, "", largest, longest); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := config.Get(t.Context(), c, "", scope); err != nil || len(d.Data) != len(largest) || d.Message != longest.Message {
		t.Errorf("%d bytes, %q, %v", len(d.Data), d.Message, err)
	}
	for name, bad := range map[string]config.Change{
		"a long message":     {Scope: "global", Message: strings.Repeat("x", 513)},
		"a long name":        {Scope: "global", By: strings.Repeat("x", 257)},
		"control characters": {Scope: "global", Message: "a\x1b[2J"},
		"no UTF-8":           {Scope: "global", By: "\xff"},
		"no revision":        {Scope: "global", Replaces: -2},
	} {
		if _, err := config.Publish(t.Context(), c, "", []byte("{}"), bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
