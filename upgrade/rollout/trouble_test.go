package rollout

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestWhatKeepsARolloutFromMovingOnShowsInItsStatus: an operator would look at a rollout
// that does nothing, and why would stand in the log of another host alone.
func TestWhatKeepsARolloutFromMovingOnShowsInItsStatus(t *testing.T) {
	r := newRig(t)
	c := r.crew(2)
	c.control("c1") // which has no Publisher
	shows := func(what, want string) {
		t.Helper()
		waittest.Until(t, what, func() bool { return strings.Contains(c.status().Trouble, want) })
	}
	p := planOf("")
	p.Target = Target{Config: &ConfigTarget{Scope: "global"}}
	c.start(p, StartOptions{Document: []byte("a: 1\n")})
	shows("a document that cannot be published is told", "no Publisher")
	kv, err := c.client.Get(t.Context(), c.operator.keys.leader())
	if err != nil || len(kv.Kvs) != 1 || kv.Kvs[0].Lease == 0 || kv.Kvs[0].CreateRevision == kv.Kvs[0].ModRevision {
		t.Errorf("the election's key does not hang on its lease any more: %+v, %v", kv, err)
	}
	if _, err := c.operator.Abort(t.Context(), Act{}); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "it is told that nothing is wrong any more", func() bool { return c.status().Trouble == "" })

	if _, err := c.client.Put(t.Context(), c.operator.keys.books(), `{"schema":2}`); err != nil {
		t.Fatal(err)
	}
	if v := c.status(); v.Plan == nil || v.Books != nil || !strings.Contains(v.Trouble, ErrSchema.Error()) {
		t.Errorf("books that cannot be read: %+v", v)
	}
	shows("and what to do is told", "let a controller of the version")
	if v := c.status(); strings.Count(v.Trouble, ErrSchema.Error()) != 1 {
		t.Errorf("it is told twice: %s", v.Trouble)
	}
}

// TestRecordThatLiesInTheWayIsTold: controllers and operators would try for ever to write
// the plan, and nobody know why.
func TestRecordThatLiesInTheWayIsTold(t *testing.T) {
	r := newRig(t)
	c := r.crew(2)
	p := c.start(planOf("1.1.0"))
	key := r.operator.keys.record(p.ID, p.Seq+1)
	if _, err := r.client.Put(t.Context(), key, "{}"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.term().look(t.Context()); !errors.Is(err, ErrHistory) || !strings.Contains(err.Error(), key) {
		t.Errorf("a controller: %v", err)
	}
	if _, err := r.operator.Pause(t.Context(), Act{By: "bob"}); !errors.Is(err, ErrHistory) || !strings.Contains(err.Error(), key) {
		t.Errorf("an operator: %v", err)
	}
	same := planOf("1.2.0")
	same.ID = p.ID
	r.start(planOf("1.2.0"), StartOptions{Replace: true})
	if _, err := r.operator.Start(t.Context(), same, StartOptions{Replace: true}); err == nil || !strings.Contains(err.Error(), "another id") {
		t.Errorf("a rollout with the id of one before: %v", err)
	}
}

// TestControllerWithoutTheRightsLeavesTheOfficeToOneThatHasThem: the fleet would stand
// still for as long as it lives, while others could go on.
func TestControllerWithoutTheRightsLeavesTheOfficeToOneThatHasThem(t *testing.T) {
	r := newRigWith(t, etcdtest.Options{Auth: &etcdtest.Auth{}})
	c := r.crew(2)
	// It may all that is asked of candidates, and not move pins.
	poor := r.server.User(t, "poor", "/agents/plan/", "/agents/rollout/", "/agents/freeze/")
	c.control("poor", func(cfg *ControllerConfig) { cfg.Client, cfg.TTL = poor, 2*time.Second })
	c.leads("poor")
	p := planOf("1.1.0")
	p.Environments = []string{"test"}
	c.start(p)
	waittest.Until(t, "what it lacks is told", func() bool { return strings.Contains(c.status().Trouble, "permission denied") })
	c.control("rich")
	c.becomes(Completed)
	if v := c.status(); v.Leader == nil || v.Leader.ID != "rich" {
		t.Errorf("%+v leads", v.Leader)
	}
	if !r.log.Has("another candidate may have the rights") {
		t.Error("it has not resigned for that")
	}
}

// TestControllerWithoutWebhooksLeavesNothingToTell: one with webhooks that comes after it
// would tell the whole rollout as if it happened now.
func TestControllerWithoutWebhooksLeavesNothingToTell(t *testing.T) {
	r := newRig(t)
	c := r.crew(3)
	stop := c.control("c1")
	c.start(planOf("1.1.0"))
	waittest.Until(t, "all of it is past", func() bool {
		v := c.status()
		return v.Plan.State == Completed && v.Books.Told == v.Plan.Seq
	})
	stop()
	heard := make(chan Record, 100)
	c.control("c2", func(cfg *ControllerConfig) { cfg.Notify = func(_ context.Context, one Record) { heard <- one } })
	c.leads("c2")
	if _, err := c.operator.Revert(t.Context(), RevertOptions{}); err != nil {
		t.Fatal(err)
	}
	if one := waittest.Next(t, "it tells", heard); one.Event != EventReverting {
		t.Errorf("it tells of %s, which nobody was to be told of", one.Event)
	}
}

// TestControllerWithoutWebhooksDoesNotPassOverWhatIsToBeTold: what the one before it did
// not get to tell would be lost.
func TestControllerWithoutWebhooksDoesNotPassOverWhatIsToBeTold(t *testing.T) {
	one, p := newTeller(&Controller{}, func() {}), &Plan{ID: "r", Seq: 7}
	for _, c := range []struct {
		books *Books
		want  int64
	}{
		{&Books{Rollout: "r", Told: 2}, 0}, {&Books{Rollout: "r", Told: 6}, 7}, {&Books{Rollout: "r", Told: 2}, 7}, // once it has caught up
	} {
		if one.follow(p, c.books); one.told(p) != c.want {
			t.Errorf("after %d it says %d, want %d", c.books.Told, one.told(p), c.want)
		}
	}
	for _, books := range []*Books{nil, {Rollout: "r"}, {Rollout: "before", Told: 3}} {
		one := newTeller(&Controller{}, func() {})
		if one.follow(p, books); one.told(p) != 7 {
			t.Errorf("after %+v it says %d", books, one.told(p))
		}
	}
}
