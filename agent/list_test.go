package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// pages reads page by page.
func (c *crowd) pages(opts ListOptions, between func()) (ids []string, last Page, err error) {
	for {
		page, err := c.dir.List(c.Context(), opts)
		if err != nil {
			return ids, page, err
		}
		if last.Revision != 0 && page.Revision != last.Revision {
			c.Errorf("a page at revision %d after one at %d", page.Revision, last.Revision)
		}
		for _, e := range page.Entries {
			ids = append(ids, e.ID)
		}
		if last = page; page.Continue == "" {
			return ids, last, nil
		}
		opts.Continue = page.Continue
		between()
	}
}

func TestPagesOfAListAreOfOneMoment(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	// Ids whose plugins sort otherwise than they do: a hyphen is before a slash.
	for _, id := range []string{"a", "a-b", "a.b"} {
		c.put("registry/"+id, `{"schema":1,"id":"`+id+`"}`, "status/"+id, `{"schema":1}`, "plugins/"+id+"/p", `{"schema":1,"name":"p"}`)
	}
	got, last, err := c.pages(ListOptions{Selector: selects(t, ".plugin=p")}, func() {})
	if err != nil || strings.Join(got, " ") != "a a-b a.b" || last.Entries[2].Status == nil {
		t.Errorf("listed %q, %v", got, err)
	}
	c.fill(9)
	change := func() {
		c.remove("registry/"+crowdID(8), "registry/"+crowdID(0))
		c.put("registry/"+crowdID(7), registered(t, 7, "2.0.0"), "registry/late", `{"schema":1,"id":"late"}`)
	}
	got, _, err = c.pages(ListOptions{Limit: 2, Selector: selects(t, ".version!=2.0.0")}, change)
	want := "a a-b a.b agent-00000 agent-00001 agent-00002 agent-00003 agent-00004 agent-00005 agent-00006 agent-00007 agent-00008"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("listed %q, %v", got, err)
	}
	got, _, err = c.pages(ListOptions{Limit: 2, Selector: selects(t, ".version!=2.0.0")}, func() {})
	if want := "a a-b a.b agent-00001 agent-00002 agent-00003 agent-00004 agent-00005 agent-00006 late"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("listed %q, %v", got, err)
	}
	// A page that is just full is the last one all the same.
	page, err := c.dir.List(t.Context(), ListOptions{Limit: 3, Selector: selects(t, ".plugin=p")})
	if err != nil || page.Continue != "" {
		t.Errorf("after all there is %q, %v", page.Continue, err)
	}
	e, err := c.dir.Get(t.Context(), "a")
	if err != nil || e.ID != "a" || len(e.Plugins) != 1 || e.Status == nil {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := c.dir.Get(t.Context(), crowdID(0)); !errors.Is(err, ErrNotRegistered) {
		t.Errorf("of an agent that is gone: %v", err)
	}
}

func TestPageOfARevisionThatIsGoneSaysThatTheListHasExpired(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.fill(4)
	first, err := c.dir.List(t.Context(), ListOptions{Limit: 1})
	if err != nil || first.Continue == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	now := c.put("registry/"+crowdID(0), registered(t, 0, "1.0.1"))
	if _, err := c.client.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	expired := func(what string) {
		t.Helper()
		_, err := c.dir.List(t.Context(), ListOptions{Limit: 1, Continue: first.Continue})
		if !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "again from the start") {
			t.Errorf("%s: %v", what, err)
		}
	}
	expired("compacted")
	// etcdtest's clusters all have the same id.
	token, err := parsePosition(first.Continue)
	if err != nil {
		t.Fatal(err)
	}
	token.Cluster++
	token.Revision = now
	first.Continue = token.String()
	expired("another cluster")
	token.Cluster--
	token.Revision = now + 1
	first.Continue = token.String()
	expired("a store that is not that far")
	c.etcd.Wipe()
	c.fill(1)
	if page, err := c.dir.List(t.Context(), ListOptions{Limit: 1}); err != nil || len(page.Entries) != 1 {
		t.Errorf("a new list: %+v, %v", page, err)
	}
}

func TestForgedContinuationIsRefused(t *testing.T) {
	t.Parallel()
	d := openDirectory(t, "http://127.0.0.1:1")
	for name, text := range map[string]string{
		"no base64":        "%%%",
		"no JSON":          base64.RawURLEncoding.EncodeToString([]byte("{")),
		"trailing":         base64.RawURLEncoding.EncodeToString([]byte(`{"schema":1,"cluster":"1","revision":1,"after":"a"} x`)),
		"unknown member":   base64.RawURLEncoding.EncodeToString([]byte(`{"schema":1,"cluster":"1","revision":1,"after":"a","x":1}`)),
		"newer":            position{Schema: 2, Cluster: 1, Revision: 1, After: "a"}.String(),
		"no revision":      position{Schema: 1, Cluster: 1, After: "a"}.String(),
		"hostile id":       position{Schema: 1, Cluster: 1, Revision: 1, After: "../status/a"}.String(),
		"no id":            position{Schema: 1, Cluster: 1, Revision: 1}.String(),
		"long":             strings.Repeat("A", 1<<20),
		"escapes":          "\x1b[31m",
		"negative cluster": base64.RawURLEncoding.EncodeToString([]byte(`{"schema":1,"cluster":"-1","revision":1,"after":"a"}`)),
	} {
		if _, err := d.List(t.Context(), ListOptions{Continue: text}); err == nil || len(err.Error()) > 500 || strings.Contains(err.Error(), "\x1b") || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzContinuation(f *testing.F) {
	f.Add(position{Schema: 1, Cluster: 1, Revision: 1, After: "a"}.String())
	f.Add("%%%")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parsePosition(text); err == nil {
			if again, err := parsePosition(p.String()); err != nil || again != p {
				t.Errorf("%q is read as %+v, written as %q and read as %+v, %v", text, p, p, again, err)
			}
		}
	})
}

func TestListWaitsForAnEtcdThatIsAwayForAMoment(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.fill(3)
	c.etcd.Stop()
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := c.dir.List(short, ListOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a list with a deadline ended with %v", err)
	}
	type result struct {
		page Page
		err  error
	}
	listed := make(chan result, 1)
	go func() {
		page, err := c.dir.List(t.Context(), ListOptions{})
		listed <- result{page, err}
	}()
	c.etcd.Restart()
	if r := waittest.Next(t, "the list", listed); r.err != nil || len(r.page.Entries) != 3 {
		t.Errorf("%d agents, %v", len(r.page.Entries), r.err)
	}
}
