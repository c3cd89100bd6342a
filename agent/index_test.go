package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/waittest"
)

func TestIndexOfAFleetTellsWhichAgentChangedAndEqualsTheList(t *testing.T) {
	t.Parallel()
	c, n := newCrowd(t), *fleetSize
	c.fill(n)
	x := c.index(IndexConfig{})
	type told struct {
		s *Snapshot
		c Changes
	}
	calls := make(chan told, 100)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.Watch(ctx, func(s *Snapshot, c Changes) { calls <- told{s, c} }) }()
	first := waittest.Next(t, "the first snapshot", calls)
	if len(first.c.Added) != n || first.s.Len() != n {
		t.Fatalf("%d of %d agents, %d added", first.s.Len(), n, len(first.c.Added))
	}
	// One transaction, as agents write: it may show in two steps.
	c.put("registry/"+crowdID(7), registered(t, 7, "1.1.0"), "status/"+crowdID(7), reported(t, false))
	var seen Changes
	for last := first.s; !runs(crowdID(7), "1.1.0")(last) || last.Get(crowdID(7)).Status.Health.Ready; {
		next := waittest.Next(t, "the change", calls)
		last, seen.Changed = next.s, append(seen.Changed, next.c.Changed...)
		if len(next.c.Added)+len(next.c.Removed) > 0 {
			t.Errorf("a change of one adds %d and removes %d", len(next.c.Added), len(next.c.Removed))
		}
	}
	for _, e := range seen.Changed {
		if e.ID != crowdID(7) {
			t.Errorf("a change of %s shows as one of %s", crowdID(7), e.ID)
		}
	}
	if first.s.Get(crowdID(7)).Version != "1.0.0" {
		t.Error("a snapshot changed in the hands of its reader")
	}
	c.remove("status/"+crowdID(8), "registry/"+crowdID(8))
	for gone := false; !gone; {
		next := waittest.Next(t, "that an agent has left", calls)
		gone = ids(next.c.Removed) == crowdID(8)
	}
	stop()
	if err := waittest.Next(t, "the end of the watch", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
	page, err := c.dir.List(t.Context(), ListOptions{Selector: selects(t, "zone in (a,b),.version<1.1")})
	if err != nil {
		t.Fatal(err)
	}
	indexed := x.Snapshot().List(selects(t, "zone in (a,b),.version<1.1"))
	if len(page.Entries) != n/2-1 || len(indexed) != len(page.Entries) { // one has left
		t.Fatalf("%d listed, %d indexed, want %d", len(page.Entries), len(indexed), n/2-1)
	}
	for i := range indexed {
		if encoded(t, indexed[i]) != encoded(t, &page.Entries[i]) {
			t.Fatalf("indexed %+v, listed %+v", indexed[i], page.Entries[i])
		}
	}
}

func TestReadersOfTheIndexSeeOneMomentEachWhileItChanges(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	const pairs = 20
	// Two agents in one transaction always run the same version.
	write := func(version string) {
		var all []string
		for i := range pairs {
			all = append(all, "registry/"+crowdID(i), registered(t, i, version))
		}
		c.put(all...)
	}
	write("1.0.0")
	x := c.index(IndexConfig{Coalesce: -1})
	c.ready(x)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				s := x.Snapshot()
				for _, e := range s.List(Selector{}) {
					if s.Len() != pairs || e.Version != s.Get(crowdID(0)).Version {
						t.Errorf("at revision %d: %d agents, %s runs %s", s.Revision(), s.Len(), e.ID, e.Version)
						return
					}
				}
				select {
				case <-stop:
					return
				default:
					runtime.Gosched()
				}
			}
		})
	}
	for i := range 50 {
		write(fmt.Sprintf("1.0.%d", i+1))
	}
	c.sees(x, "the last version", runs(crowdID(3), "1.0.50"))
	close(stop)
	readers.Wait()
}

func TestIndexIsRightAgainAfterItMissedChangesThatWereCompacted(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.fill(3)
	proxy := c.etcd.Proxy(t)
	c.dir = openDirectory(t, proxy.URL())
	x := c.index(IndexConfig{})
	c.ready(x)
	before := x.Snapshot()
	proxy.Cut()
	c.remove("registry/"+crowdID(0), "status/"+crowdID(0), "registry/"+crowdID(2), "status/"+crowdID(2))
	now := c.put("registry/"+crowdID(1), registered(t, 1, "2.0.0"), "registry/new", `{"schema":1,"id":"new"}`)
	if _, err := c.client.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	proxy.Heal()
	d := c.sees(x, "the agent that came", func(s *Snapshot) bool { return s.Get("new") != nil }).Since(before)
	if ids(d.Added) != "new" || ids(d.Changed) != crowdID(1) || ids(d.Removed) != crowdID(0)+" "+crowdID(2) {
		t.Errorf("added %s, changed %s, removed %s", ids(d.Added), ids(d.Changed), ids(d.Removed))
	}
	if before.Len() != 3 || before.Get(crowdID(1)).Status == nil {
		t.Error("an earlier snapshot changed")
	}
}

func TestIndexTellsThatEtcdIsAwayAndIsReadyWhenItIsBack(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.fill(1)
	c.etcd.Stop()
	errs := make(chan error, 100)
	x := c.index(IndexConfig{OnError: func(err error) { errs <- err }})
	if err := waittest.Next(t, "the outage is told", errs); err == nil || x.Err() == nil || x.Snapshot().Len() != 0 {
		t.Errorf("an outage is told as %v and %v", err, x.Err())
	}
	c.etcd.Restart()
	c.ready(x)
	if x.Snapshot().Len() != 1 {
		t.Errorf("ready with %d agents", x.Snapshot().Len())
	}
	waittest.Until(t, "the end of the outage is told", func() bool { return x.Err() == nil })
}

// TestIndexTellsOfAnEtcdThatFallsSilent: whoever watches a fleet would otherwise
// take what is nearly two minutes old for the present.
func TestIndexTellsOfAnEtcdThatFallsSilent(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.fill(1)
	proxy := c.etcd.Proxy(t)
	c.dir = openDirectory(t, proxy.URL())
	errs := make(chan error, 100)
	x := c.index(IndexConfig{OnError: func(err error) { errs <- err }})
	c.ready(x)
	proxy.Freeze()
	began := time.Now()
	err := waittest.Next(t, "the silence is told", errs)
	if err == nil || !strings.Contains(err.Error(), "does not answer") || x.Err() == nil {
		t.Errorf("a silent etcd is told as %v and %v", err, x.Err())
	}
	if took := time.Since(began); took > etcdkv.MaxSilence/2 {
		t.Errorf("told after %v", took)
	}
	proxy.Heal()
	waittest.Until(t, "the end of the silence is told", func() bool { return x.Err() == nil })
}
