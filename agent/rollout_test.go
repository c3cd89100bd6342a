package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// beside runs f until the test ends.
func (c *crowd) beside(f func(context.Context) error) {
	c.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = f(ctx) }) // it ends with ctx only
	c.Cleanup(func() { stop(); run.Wait() })
}

// obey has agents report that they did what the plan asks for, as soon as it
// admits them.
func (c *crowd) obey(o *rollout.Operator) {
	c.Helper()
	c.beside(func(ctx context.Context) error {
		return o.Watch(ctx, func(v rollout.View) {
			if v.Plan == nil {
				return
			}
			adm, err := rollout.NewAdmission(*v.Plan)
			all, errList := listed(ctx, c.dir)
			if err = errors.Join(err, errList); err != nil {
				if ctx.Err() == nil {
					c.Error(err)
				}
				return
			}
			for i := range all {
				m := RolloutMember(&all[i], time.Now())
				if m.Fleet != rollout.DefaultFleet || !adm.Admits(m) || m.Report != nil && m.Report.Request == v.Plan.Request() {
					continue
				}
				s := Status{Schema: schema, At: time.Now(), Rollout: &rollout.Report{Request: v.Plan.Request(), State: rollout.ReportDone, At: time.Now()}}
				s.Health.Ready = true
				c.put("status/"+m.ID, encoded(c, s))
			}
		})
	})
}

// becomes waits until the rollout is in a state.
func (c *crowd) becomes(o *rollout.Operator, want rollout.State) rollout.View {
	c.Helper()
	var v rollout.View
	waittest.Until(c, "the rollout is "+string(want), func() bool {
		var err error
		v, err = o.Status(c.Context())
		return err == nil && v.Plan != nil && v.Plan.State == want
	})
	return v
}

// document is what a scope has now.
func (c *crowd) document(scope string) config.Document {
	c.Helper()
	d, err := config.Get(c.Context(), c.client, "", scope)
	if err != nil && !errors.Is(err, config.ErrNotFound) {
		c.Fatal(err)
	}
	return d
}

// desk is a fleet of three whose rollouts are controlled.
type desk struct {
	*crowd
	o *rollout.Operator
}

func newDesk(t *testing.T) desk {
	t.Helper()
	c := newCrowd(t)
	c.fill(3)
	o, err := c.dir.Rollouts("")
	if err != nil {
		t.Fatal(err)
	}
	controller, err := c.dir.RolloutController(rollout.ControllerConfig{ID: "c1", TTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	c.beside(controller.Run)
	c.obey(o)
	return desk{c, o}
}

// publish makes document that of all, "" = none.
func (d desk) publish(document, by string) {
	d.Helper()
	change := config.Change{Scope: "global", Replaces: config.AnyRevision, By: by}
	var err error
	if document == "" {
		_, err = config.Delete(d.Context(), d.client, "", change)
	} else {
		_, err = config.Publish(d.Context(), d.client, "", []byte(document), change)
	}
	if err != nil {
		d.Fatal(err)
	}
}

func TestDocumentIsPublishedWhenItsRolloutCompletesAndTakenBackWithIt(t *testing.T) {
	t.Parallel()
	c := newDesk(t)
	o := c.o
	// One of another fleet, which the plan's selector would take: it follows none of this.
	c.put("registry/"+crowdID(3), strings.Replace(registered(t, 3, "1.0.0"), `"fleet":"default"`, `"fleet":"edge"`, 1))
	c.publish("a: 1\n", "carol")
	start := func(scope, document string) {
		t.Helper()
		p := rollout.Plan{Strategy: rollout.Rolling, By: "alice", Target: rollout.Target{Config: &rollout.ConfigTarget{Scope: scope}}}
		if _, err := o.Start(t.Context(), p, rollout.StartOptions{Document: []byte(document)}); err != nil {
			t.Fatal(err)
		}
		if v := c.becomes(o, rollout.Completed); v.Books.Figures.Succeeded != 3 {
			t.Errorf("figures: %+v", v.Books.Figures)
		}
		if d := c.document(scope); string(d.Data) != document || d.By != "alice" || !strings.Contains(d.Message, "rollout") {
			t.Errorf("%s is %q by %s: %s", scope, d.Data, d.By, d.Message)
		}
	}
	revert := func() {
		t.Helper()
		if _, err := o.Revert(t.Context(), rollout.RevertOptions{Act: rollout.Act{By: "bob"}}); err != nil {
			t.Fatal(err)
		}
		c.becomes(o, rollout.Reverted)
	}
	start("global", "a: 2\n")
	past, err := config.History(t.Context(), c.client, "", "global")
	if err != nil || len(past.Documents) != 1 || string(past.Documents[0].Data) != "a: 1\n" {
		t.Errorf("the history of the document: %+v, %v", past, err)
	}
	revert()
	if d := c.document("global"); string(d.Data) != "a: 1\n" {
		t.Errorf("after the revert it is %q", d.Data)
	}
	// Where there was none there is to be none again.
	start("group/web", "b: 1\n")
	revert()
	if d := c.document("group/web"); d.Data != nil {
		t.Errorf("after the revert there is %q", d.Data)
	}
	// What others have published since is theirs.
	start("global", "a: 3\n")
	if _, err := config.Put(t.Context(), c.client, "", "global", []byte("a: 4\n")); err != nil {
		t.Fatal(err)
	}
	revert()
	if d := c.document("global"); string(d.Data) != "a: 4\n" {
		t.Errorf("a revert takes away what others have published: it is %q", d.Data)
	}
	_, err = o.Start(t.Context(), rollout.Plan{Target: rollout.Target{Config: &rollout.ConfigTarget{Scope: "global"}}}, rollout.StartOptions{Document: []byte("- a list\n")})
	if !errors.Is(err, config.ErrInvalid) {
		t.Errorf("what agents cannot read is rolled out: %v", err)
	}
}

// isHeldUp checks that the rollout has paused over what was published meanwhile, and
// has whoever asks for it all the same have it.
func (d desk) isHeldUp(meanwhile, says string) {
	d.Helper()
	if v := d.becomes(d.o, rollout.Paused); !strings.Contains(v.Plan.Why, says) || !strings.Contains(v.Plan.Why, "resume") {
		d.Errorf("it is paused: %s", v.Plan.Why)
	}
	if got := d.document("global"); string(got.Data) != meanwhile {
		d.Errorf("the document that was published meanwhile is %q", got.Data)
	}
	if _, err := rollout.GetPin(d.Context(), d.client, "", "test"); !errors.Is(err, rollout.ErrNoPin) {
		d.Errorf("what has not completed has moved a pin: %v", err)
	}
	d.publish("a: 2\n", "alice")
	if _, err := d.o.Resume(d.Context(), rollout.Act{By: "alice"}); err != nil {
		d.Fatal(err)
	}
}

// TestDocumentThatOthersPublishedMeanwhileIsNotReplacedByARollout: an urgent change
// would be gone hours later, when the rollout completes, and nobody told.
func TestDocumentThatOthersPublishedMeanwhileIsNotReplacedByARollout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, meanwhile string // "" = none
		says              string
	}{
		"another":             {"a: 1\n", "a: 3\n", "by bob"},
		"one where none was":  {"", "a: 3\n", "by bob"},
		"deleted":             {"a: 1\n", "", "the deletion by bob"},
		"the one before":      {"a: 1\n", "a: 1\n", ""},
		"that of the rollout": {"a: 1\n", "a: 2\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			if c.before != "" {
				d.publish(c.before, "carol")
			}
			p := rollout.Plan{By: "alice", Environments: []string{"test"}, Stages: []rollout.Stage{{Name: "all", Manual: true}}}
			p.Target.Config = &rollout.ConfigTarget{Scope: "global"}
			if _, err := d.o.Start(t.Context(), p, rollout.StartOptions{Document: []byte("a: 2\n")}); err != nil {
				t.Fatal(err)
			}
			d.publish(c.meanwhile, "bob")
			if _, err := d.o.Promote(t.Context(), rollout.PromoteOptions{Act: rollout.Act{By: "alice"}}); err != nil {
				t.Fatal(err)
			}
			if c.says != "" {
				d.isHeldUp(c.meanwhile, c.says)
			}
			d.becomes(d.o, rollout.Completed)
			if got := d.document("global"); string(got.Data) != "a: 2\n" {
				t.Errorf("the rollout has completed, and the document is %q", got.Data)
			}
			if past, err := d.o.History(t.Context(), rollout.HistoryOptions{}); err != nil || c.says != "" && past[0].Records[len(past[0].Records)-3].Event != rollout.EventPaused {
				t.Errorf("the history: %+v, %v", past, err)
			}
		})
	}
}

// An agent whose registration ended and is there again is one that a controller
// has not counted; one that has only written it anew is not.
func TestFleetTellsWhoWasAway(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.fill(2)
	snapshots := make(chan rollout.Snapshot, 100)
	c.beside(func(ctx context.Context) error {
		return RolloutFleet(c.dir, "").Watch(ctx, func(s rollout.Snapshot) { snapshots <- s }, func(error) {})
	})
	last := waittest.Next(t, "the first snapshot", snapshots)
	first := last
	sees := func(what string, ok func(*rollout.Member) bool) *rollout.Member {
		t.Helper()
		for {
			i := slices.IndexFunc(last.Members, func(m *rollout.Member) bool { return m.ID == crowdID(1) })
			if i >= 0 && ok(last.Members[i]) || i < 0 && ok(nil) {
				if i < 0 {
					return nil
				}
				return last.Members[i]
			}
			last = waittest.Next(t, what, snapshots)
		}
	}
	before := sees("it", func(m *rollout.Member) bool { return m != nil })
	if before.Joined == 0 || before.Joined > last.Revision {
		t.Errorf("it joined at revision %d, all are known up to %d", before.Joined, last.Revision)
	}
	c.put("registry/"+crowdID(1), registered(t, 1, "1.1.0"))
	same := sees("its new version", func(m *rollout.Member) bool { return m != nil && m.Version == "1.1.0" })
	if same.Joined != before.Joined {
		t.Errorf("an upgrade makes it another: joined at %d, then %d", before.Joined, same.Joined)
	}
	c.remove("registry/" + crowdID(1))
	sees("that it is away", func(m *rollout.Member) bool { return m == nil })
	// Nobody writes a status: what is known of registrations does not wait for one.
	at := c.put("registry/"+crowdID(1), registered(t, 1, "1.1.0"))
	back := sees("that it is back", func(m *rollout.Member) bool { return m != nil })
	if back.Joined != at || last.Revision < at {
		t.Errorf("it is back since %d: joined at %d, all are known up to %d", at, back.Joined, last.Revision)
	}
	if first.Members[1].Version != "1.0.0" {
		t.Error("a snapshot changed in the hands of its reader")
	}
}

func TestMemberIsOverdueWhenItsStatusIs(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.fill(1)
	x := c.index(IndexConfig{})
	c.ready(x)
	m := members{fleet: "default"}
	since := time.Unix(1e9, 0)
	all, news := m.take(x.Snapshot(), since.Add(time.Second), time.Time{})
	if !news || all.Members[0].Overdue {
		t.Errorf("at first: %+v, news %t", all.Members[0], news)
	}
	if _, news := m.take(x.Snapshot(), since.Add(2*time.Second), time.Time{}); news {
		t.Error("there is news where nothing has changed")
	}
	later, news := m.take(x.Snapshot(), since.Add(time.Hour), time.Time{})
	if !news || !later.Members[0].Overdue || all.Members[0].Overdue {
		t.Errorf("an hour later: %+v, news %t, before %+v", later.Members[0], news, all.Members[0])
	}
	// After an outage of etcd all would be, for a moment, and their rollout fail.
	after, news := m.take(x.Snapshot(), since.Add(time.Hour), since.Add(time.Hour-time.Second))
	if !news || after.Members[0].Overdue {
		t.Errorf("a second after etcd has answered again: %+v, news %t", after.Members[0], news)
	}
}

// TestAMemberIsMadeOnceForEachEntry: a controller of ten thousand agents would make
// all of them anew for each that reports.
func TestAMemberIsMadeOnceForEachEntry(t *testing.T) {
	t.Parallel()
	entry := func(id string) *Entry { return &Entry{Registration: Registration{ID: id, Fleet: "default"}} }
	b, c, e := entry("b"), entry("c"), entry("e")
	m := members{fleet: "default"}
	take := func(entries ...*Entry) []*rollout.Member {
		all, _ := m.take(&Snapshot{registered: 1, entries: entries}, time.Now(), time.Time{})
		return all.Members
	}
	before := take(b, c, e)
	changed := entry("c")
	after := take(entry("a"), b, changed, entry("d"), e)
	if after[1] != before[0] || after[4] != before[2] {
		t.Error("members whose entries are the same are others")
	}
	if after[2] == before[1] {
		t.Error("a member whose entry has changed is the same")
	}
	for i, id := range []string{"a", "b", "c", "d", "e"} {
		if after[i].ID != id {
			t.Errorf("member %d is %s, want %s", i, after[i].ID, id)
		}
	}
	if last := take(e); last[0] != before[2] {
		t.Error("a member is another once others have gone")
	}
}
