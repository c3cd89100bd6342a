package rollout

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/election"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestRolloutGoesOnWhereALostControllerStopped and each step is one write,
// whoever makes it.
func TestRolloutGoesOnWhereALostControllerStopped(t *testing.T) {
	r := newRig(t)
	c := r.crew(6)
	proxy := r.server.Proxy(t)
	lost := proxy.Client(t)
	c.control("c1", func(cfg *ControllerConfig) { cfg.Client = lost })
	c.leads("c1")
	c.hold()
	c.start(planOf("1.1.0"))
	waittest.Until(t, "one has begun", func() bool { return c.begun() == 1 })
	c.control("c2")
	proxy.Freeze()
	c.leads("c2")
	c.release()
	v := c.becomes(Completed)
	proxy.Heal()
	if f := v.Books.Figures; f.Succeeded != 6 || f.Failed+f.Gone+f.Silent != 0 {
		t.Errorf("figures: %+v", f)
	}
	if worst := c.most(); worst != 1 {
		t.Errorf("%d were at it at once, 1 may be", worst)
	}
	past := r.history()[0]
	admitted := strings.Count(events(past), string(EventAdmitted))
	if first, last := past.Records[1], past.Records[len(past.Records)-1]; admitted != 6 || first.By != "controller c1" || last.By != "controller c2" || last.Event != EventCompleted {
		t.Errorf("history: %s, first by %s, last by %s", events(past), first.By, last.By)
	}
	c.steps()
}

func TestDeposedControllerWritesNothing(t *testing.T) {
	r := newRig(t)
	c := r.crew(3)
	c.control("c1", func(cfg *ControllerConfig) { cfg.TTL = 20 * time.Second })
	c.leads("c1")
	c.hold()
	c.start(planOf("1.1.0"))
	waittest.Until(t, "one has begun", func() bool { return c.begun() == 1 })
	before := r.status().Plan
	// Somebody else is elected while it believes that it still is.
	key := r.operator.keys.leader()
	if _, err := r.client.Txn(t.Context()).Then(clientv3.OpDelete(key)).Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Put(t.Context(), key, `{"schema":1,"id":"c2","since":"2030-01-01T00:00:00Z"}`); err != nil {
		t.Fatal(err)
	}
	c.release()
	waittest.Until(t, "it has noticed", func() bool { return r.log.Has("the term of the elected has ended") })
	if now := r.status().Plan; now.Seq != before.Seq {
		t.Errorf("it writes all the same: %+v", now)
	}
}

// term is one that was never run, with what etcd holds now.
func (c *crew) term() *term {
	c.Helper()
	if _, err := c.client.Put(c.Context(), c.operator.keys.leader(), `{"schema":1,"id":"c"}`); err != nil {
		c.Fatal(err)
	}
	one, err := NewController(ControllerConfig{Client: c.client, ID: "c", Agents: c, Logger: c.logger()})
	if err != nil {
		c.Fatal(err)
	}
	at, err := one.now(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	t := newTerm(one, at.leader.created)
	t.at, t.read = at, true
	ctx, cancel := context.WithCancel(c.Context())
	_ = c.Watch(ctx, func(s Snapshot) { t.see(s); cancel() }, nil)
	return t
}

// What an operator does between a controller's reading and its writing holds.
func TestControllerWritesOnTopOfWhatItHasReadOnly(t *testing.T) {
	for name, do := range map[string]func(*Operator) error{
		"the brake was pulled": func(o *Operator) error { return o.Freeze(t.Context(), Act{By: "bob"}, false) },
		"it was paused":        func(o *Operator) error { _, err := o.Pause(t.Context(), Act{By: "bob"}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.crew(2)
			c.start(planOf("1.1.0"))
			one := c.term()
			if err := do(r.operator); err != nil {
				t.Fatal(err)
			}
			before := r.status()
			if _, err := one.look(t.Context()); err != nil {
				t.Error(err)
			}
			after := r.status()
			if after.Plan.Seq != before.Plan.Seq || after.Plan.Cursor.Marks != nil {
				t.Errorf("the mark moved: %+v", after.Plan.Cursor)
			}
			if one.at.revision < before.Revision {
				t.Errorf("it does not know what there is: revision %d, %d", one.at.revision, before.Revision)
			}
		})
	}
}

// TestTermThatIsOverDoesNotWaitForItsChecks: one may take an hour, in which the office is
// held, or stood for, by one that does nothing.
func TestTermThatIsOverDoesNotWaitForItsChecks(t *testing.T) {
	r := newRig(t)
	c := r.crew(2)
	p := planOf("1.1.0")
	p.Stages[0].Judge.Checks = []Check{{Name: "slow", Kind: "slow", Timeout: 3600, Attempts: 1}}
	c.start(p)
	one := c.term()
	asked := make(slowCheck, 1)
	one.checks.checkers["slow"] = asked
	ended := make(chan error, 1)
	c.background(func(ctx context.Context) error {
		ended <- one.run(ctx)
		<-ctx.Done()
		return ctx.Err()
	})
	waittest.Next(t, "it is asked", asked)
	one.receive(etcdkv.View{Reset: true})
	if err := waittest.Next(t, "the term is over", ended); !errors.Is(err, errReset) {
		t.Errorf("it ends with %v", err)
	}
}

// slowCheck tells that it is asked, and has no answer.
type slowCheck chan struct{}

func (s slowCheck) Check(ctx context.Context, _ Check, _ *Plan) (Verdict, string, error) {
	s <- struct{}{}
	<-ctx.Done()
	return "", "", ctx.Err()
}

// The mod revision of the plan is what tells: where a rollout is over, the next
// one has records of its own.
func TestPlanThatWasReplacedMeanwhileIsNotOverwritten(t *testing.T) {
	r := newRig(t)
	c := r.crew(2)
	p := c.start(planOf("1.1.0"))
	one := c.term()
	p.ID = "another"
	value, err := encode(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Put(t.Context(), r.operator.keys.plan(), value); err != nil {
		t.Fatal(err)
	}
	if again, _, err := one.step(t.Context(), one.at, *one.fleet); !again || err != nil {
		t.Errorf("a refused write: again %t, %v", again, err)
	}
	if now := r.status().Plan; now.ID != "another" || one.at.plan.value.ID != "another" {
		t.Errorf("the plan is that of %s, the controller goes by that of %s", now.ID, one.at.plan.value.ID)
	}
}

// It cannot tell whether its write was done.
func TestControllerFindsOutWhatBecameOfAWrite(t *testing.T) {
	r := newRig(t)
	c := r.crew(2)
	c.start(planOf("1.1.0"))
	one := c.term()
	unknown := context.DeadlineExceeded
	if err := one.refused(t.Context(), standing{}, unknown); err == nil || one.at.plan.value == nil {
		t.Errorf("a write that was not answered: %v", err)
	}
	if _, err := r.client.Delete(t.Context(), r.operator.keys.leader()); err != nil {
		t.Fatal(err)
	}
	if err := one.refused(t.Context(), standing{}, unknown); !strings.Contains(err.Error(), election.ErrDeposed.Error()) {
		t.Errorf("after it was deposed: %v", err)
	}
}

// A watch tells of a controller's own writes late, and of what it has read anew.
func TestWatchThatIsBehindTakesNothingBack(t *testing.T) {
	r := newRig(t)
	c := r.crew(3)
	c.start(planOf("1.1.0"))
	one := c.term()
	old := one.at
	if _, err := one.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	wrote := one.at.plan.mod
	if wrote <= old.plan.mod {
		t.Fatalf("it wrote nothing: revision %d", wrote)
	}
	k := r.operator.keys
	before, err := r.client.Get(t.Context(), k.plan(), clientv3.WithRev(old.plan.mod))
	if err != nil {
		t.Fatal(err)
	}
	view := viewOf(old.revision, before.Kvs)
	if one.receive(view); one.at.plan.mod != wrote {
		t.Errorf("the plan of revision %d is taken for the newest, that of %d is", one.at.plan.mod, wrote)
	}
	if one.at.books.value == nil {
		t.Error("the books that it wrote are gone")
	}
	now, err := r.client.Get(t.Context(), k.plan())
	if err != nil {
		t.Fatal(err)
	}
	view = viewOf(now.Header.Revision, now.Kvs) // and the books were deleted
	if one.receive(view); one.at.plan.mod != wrote || one.at.books.value != nil {
		t.Errorf("what is newest is not taken: plan %d, books %v", one.at.plan.mod, one.at.books.value)
	}
	view.Reset = true
	one.receive(view)
	if _, err := one.look(t.Context()); err == nil || !strings.Contains(err.Error(), errReset.Error()) {
		t.Errorf("it goes on with another etcd: %v", err)
	}
}

func TestControllerWaitsWhileItDoesNotSeeTheAgents(t *testing.T) {
	r := newRig(t)
	c := r.crew(2)
	c.start(planOf("1.1.0"))
	one := c.term()
	one.doubt(context.DeadlineExceeded)
	if _, err := one.look(t.Context()); err == nil || r.status().Plan.Seq != 1 {
		t.Errorf("with an old view it moves on: %v", err)
	}
	one.doubt(nil)
	seen, before := *one.fleet, *one.fleet
	before.Revision = one.at.plan.mod - 2
	one.at.plan.value.Cursor.AsOf, one.fleet = one.at.plan.mod-1, &before
	if _, err := one.look(t.Context()); err == nil || r.status().Plan.Seq != 1 {
		t.Errorf("with a view from before the last step it moves on: %v", err)
	}
	one.at.plan.value.Cursor.AsOf, one.fleet = 0, &seen
	one.at.books.err = ErrSchema
	if _, err := one.look(t.Context()); !errors.Is(err, ErrSchema) || r.status().Plan.Seq != 1 {
		t.Errorf("without the books of a later version it moves on: %v", err)
	}
	one.at.books.err = nil
	if _, err := one.look(t.Context()); err != nil || r.status().Plan.Seq == 1 {
		t.Errorf("now that it sees them: %v", err)
	}
}

func TestPinsFollowARolloutToItsEndAndBack(t *testing.T) {
	r := newRig(t)
	c := r.crew(2)
	c.control("c1")
	p := planOf("1.1.0")
	p.Previous = Target{Release: pinned("1.0.0"), Program: "agent"}
	p.Environments, p.Binaries = []string{"test", "production"}, map[string]string{"linux/amd64": strings.Repeat("7", 64)}
	if _, err := SetPin(t.Context(), r.client, "", Pin{Environment: "production", Release: pinned("0.9.0")}, 0); err != nil {
		t.Fatal(err)
	}
	before := Pin{Schema: Schema, Environment: "stage", Release: pinned("1.0.0"), By: "ops", Reason: "as it was", At: time.Now().UTC().Truncate(time.Second)}
	if _, err := SetPin(t.Context(), r.client, "", before, 0); err != nil {
		t.Fatal(err)
	}
	both := p.Environments
	p.Environments = append(slices.Clone(both), "stage")
	p = c.start(p)
	c.becomes(Completed)
	check := func(want Target, binaries map[string]string) {
		t.Helper()
		for _, environment := range both {
			pin, err := GetPin(t.Context(), r.client, "", environment)
			if err != nil || pin.Release != want.Release || pin.Rollout != p.ID || pin.By != "alice" || !maps.Equal(pin.Binaries, binaries) {
				t.Errorf("%s: %+v, %v", environment, pin, err)
			}
		}
	}
	check(p.Target, p.Binaries)
	if _, err := r.operator.Revert(t.Context(), RevertOptions{Act: Act{By: "bob"}}); err != nil {
		t.Fatal(err)
	}
	c.becomes(Reverted)
	check(p.Previous, nil)
	if pin, err := GetPin(t.Context(), r.client, "", "stage"); err != nil || !reflect.DeepEqual(pin.Pin, before) {
		t.Errorf("what was meant to run before is forgotten: %+v, %v", pin, err)
	}
	if got := events(r.history()[0]); !strings.HasSuffix(got, "reverted") || !strings.Contains(got, "completed reverting") {
		t.Errorf("history: %s", got)
	}
}
