package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

func TestRolloutThatIsUnderWayIsNotReplacedUnasked(t *testing.T) {
	r := newRig(t)
	first := r.start(planOf("1.1.0"))
	if _, err := r.operator.Start(t.Context(), planOf("1.2.0"), StartOptions{}); !errors.Is(err, ErrUnderWay) || !strings.Contains(err.Error(), first.ID) {
		t.Errorf("a second one begins, or it is not said which is under way: %v", err)
	}
	second := r.start(planOf("1.2.0"), StartOptions{Replace: true})
	if now := r.status().Plan; now == nil || now.ID != second.ID || now.Seq != 1 {
		t.Errorf("the plan is %+v", now)
	}
	all := r.history()
	if len(all) != 2 || events(all[0]) != "started" || events(all[1]) != "started replaced" {
		t.Fatalf("history: %+v", all)
	}
	end := all[1].Records[1]
	if end.By != "alice" || !strings.Contains(end.Why, second.ID) {
		t.Errorf("who replaced it, and by what, is not in the history: %+v", end)
	}
}

func TestWhatOperatorsDoIsInTheHistoryWithWhoAndWhy(t *testing.T) {
	r := newRig(t)
	p := planOf("1.1.0")
	p.Stages[0].Manual = true
	r.start(p)
	bob := Act{By: "bob", Reason: "because"}
	before := release.Pin{Version: "1.0.0", Digest: "sha256:" + strings.Repeat("cd", 32)}
	for _, step := range []struct {
		do   func(context.Context, Act) (Plan, error)
		want State
	}{
		{func(ctx context.Context, a Act) (Plan, error) {
			return r.operator.Promote(ctx, PromoteOptions{Act: a})
		}, Running},
		{r.operator.Pause, Paused}, {r.operator.Resume, Running},
		{r.operator.Abort, Aborted},
		{func(ctx context.Context, a Act) (Plan, error) {
			return r.operator.Revert(ctx, RevertOptions{Act: a, To: before})
		}, Reverting},
		// It goes on as it is, and does not begin anew.
		{func(ctx context.Context, a Act) (Plan, error) {
			return r.operator.Revert(ctx, RevertOptions{Act: a, PastSilent: true})
		}, Reverting},
	} {
		if p, err := step.do(t.Context(), bob); err != nil || p.State != step.want {
			t.Errorf("want %s, got %s, %v", step.want, p.State, err)
		}
	}
	now := r.status().Plan
	if now.Instruction != (Instruction{Number: 2, Action: ActRevert}) || now.Previous.Release != before || len(now.Cursor.Marks) != 0 || now.Promoted != 1 || !now.PastSilent {
		t.Errorf("the plan is %+v", now)
	}
	past := r.history()[0]
	if events(past) != "started promoted paused resumed aborted reverting reverting" || past.Records[0].Plan == nil {
		t.Fatalf("history: %+v", past)
	}
	// What was asked for beside the event is in it as well.
	whys := []string{"because", "because", "because", "because", "to " + before.String() + ": because", "past the silent agents: because"}
	for i, one := range past.Records[1:] {
		if one.By != "bob" || one.Why != whys[i] || one.Seq != int64(i+2) || one.Plan != nil {
			t.Errorf("record %+v", one)
		}
	}
}

func TestActThatDoesNotFitTheStateChangesNothing(t *testing.T) {
	r := newRig(t)
	if _, err := r.operator.Pause(t.Context(), Act{}); !errors.Is(err, ErrNoPlan) {
		t.Errorf("without a rollout: %v", err)
	}
	before := r.start(planOf("1.1.0"))
	for name, do := range map[string]func() (Plan, error){
		"resume what runs":   func() (Plan, error) { return r.operator.Resume(t.Context(), Act{}) },
		"by with a newline":  func() (Plan, error) { return r.operator.Pause(t.Context(), Act{By: "a\nb"}) },
		"a long reason":      func() (Plan, error) { return r.operator.Abort(t.Context(), Act{Reason: strings.Repeat("x", 513)}) },
		"revert to no pin":   func() (Plan, error) { return r.operator.Revert(t.Context(), RevertOptions{To: pinned("1")}) },
		"revert to its own":  func() (Plan, error) { return r.operator.Revert(t.Context(), RevertOptions{To: before.Target.Release}) },
		"a plan without aim": func() (Plan, error) { return r.operator.Start(t.Context(), Plan{}, StartOptions{Replace: true}) },
		"the brake's name": func() (Plan, error) {
			p := planOf("1.2.0")
			p.ID = "freeze"
			return r.operator.Start(t.Context(), p, StartOptions{Replace: true})
		},
	} {
		if _, err := do(); err == nil {
			t.Errorf("%s: it is done", name)
		}
	}
	if now := r.status().Plan; now.History != before.History {
		t.Errorf("the plan was written: %+v", now)
	}
}

// TestPlanWithHardlyRoomCanBeSteered: it was begun by a version that took larger ones. A
// reason that does not fit would leave a plan that nobody can read.
func TestPlanWithHardlyRoomCanBeSteered(t *testing.T) {
	r := newRig(t)
	p, err := r.operator.begun(planOfBytes(t, MaxPlanBytes-200), noon)
	if err == nil {
		t.Fatal("one that is as large begins")
	}
	value, err := encode(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Put(t.Context(), r.operator.keys.plan(), value); err != nil {
		t.Fatal(err)
	}
	act := Act{By: "bob", Reason: strings.Repeat("why ", 100)}
	for _, do := range []func(context.Context, Act) (Plan, error){r.operator.Pause, r.operator.Resume, func(ctx context.Context, a Act) (Plan, error) {
		return r.operator.Revert(ctx, RevertOptions{Act: a})
	}, r.operator.Abort} {
		p, err := do(t.Context(), act)
		if err != nil {
			t.Fatal(err)
		}
		if now := r.status().Plan; now.State != p.State || !strings.Contains(now.Why, "by bob: why why") {
			t.Errorf("it is %s: %s, want %s", now.State, now.Why, p.State)
		}
	}
	record, err := r.client.Get(t.Context(), r.operator.keys.record(p.ID, p.Seq+1))
	if err != nil || !strings.Contains(string(record.Kvs[0].Value), act.Reason) {
		t.Errorf("the whole reason is not in the history: %v", err)
	}
}

// TestRolloutAfterOneThatIsNotReadIsFollowed also where it is begun on a host whose clock
// is behind: agents follow none that is older than the last.
func TestRolloutAfterOneThatIsNotReadIsFollowed(t *testing.T) {
	r := newRig(t)
	for name, lose := range map[string]clientv3.Op{
		"a plan that cannot be read": clientv3.OpPut(r.operator.keys.plan(), `{"schema":2}`),
		"one that was deleted":       clientv3.OpDelete(r.operator.keys.plan()),
	} {
		last, err := r.operator.begun(planOf("1.1.0"), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if last, err = r.operator.change(t.Context(), func(_ standing, at time.Time) (draft, error) {
			return draft{plan: last, record: Act{}.record(EventStarted, standing{}, at)}, nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.client.Do(t.Context(), lose); err != nil {
			t.Fatal(err)
		}
		next := r.start(planOf("1.2.0"), StartOptions{Replace: true})
		if err := ageOf(&last).refuses(&next, 1); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
		if _, err := r.operator.Abort(t.Context(), Act{}); err != nil {
			t.Fatal(err)
		}
	}
}

// The answer is lost when the write is done.
func TestActWhoseAnswerIsLostIsDoneOnce(t *testing.T) {
	r := newRig(t)
	p := r.start(planOf("1.1.0"))
	proxy := r.server.Proxy(t)
	away := r.operate(proxy.Client(t))
	if _, err := away.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	get, err := away.client.Get(t.Context(), away.keys.plan())
	if err != nil {
		t.Fatal(err)
	}
	// It may read, and then hears nothing any more.
	read := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, err := away.change(context.Background(), func(s standing, at time.Time) (draft, error) {
			select {
			case <-read:
			default:
				close(read)
				proxy.FreezeWay(etcdtest.ToClient)
			}
			next, err := s.plan.value.pause(Act{By: "bob"}, at)
			return draft{before: *s.plan.value, plan: next, record: Act{By: "bob"}.record(EventPaused, s, at)}, err
		})
		done <- err
	}()
	waittest.Until(t, "the write is done", func() bool {
		v, err := r.client.Get(t.Context(), away.keys.plan())
		return err == nil && v.Kvs[0].ModRevision > get.Kvs[0].ModRevision
	})
	proxy.Cut()
	proxy.Heal()
	if err := waittest.Next(t, "it is told", done); err != nil {
		t.Errorf("what was done is said to have failed: %v", err)
	}
	if got := events(r.history()[0]); got != "started paused" {
		t.Errorf("history of %s: %s", p.ID, got)
	}
}

// TestActThatIsDoneIsNotRefusedWhereLookingForItFails: it would be said that it is in no
// state for what has just been done.
func TestActThatIsDoneIsNotRefusedWhereLookingForItFails(t *testing.T) {
	r := newRig(t)
	r.start(planOf("1.1.0"))
	client := r.server.Client(t)
	lost := &unanswered{KV: client.KV}
	client.KV = lost
	_, err := r.operate(client).change(t.Context(), func(s standing, at time.Time) (draft, error) {
		next, err := s.plan.value.pause(Act{By: "bob"}, at)
		lost.write = err == nil
		return draft{before: *s.plan.value, plan: next, record: Act{By: "bob"}.record(EventPaused, s, at)}, err
	})
	if err != nil {
		t.Errorf("what was done is refused: %v", err)
	}
	if got := events(r.history()[0]); got != "started paused" || lost.read {
		t.Errorf("history: %s; not looked for: %t", got, lost.read)
	}
}

// unanswered loses the answer to a transaction, and then to a read.
type unanswered struct {
	clientv3.KV
	write, read bool // the next is lost
}

func (u *unanswered) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if u.read {
		u.read = false
		return nil, context.DeadlineExceeded
	}
	return u.KV.Get(ctx, key, opts...)
}

func (u *unanswered) Txn(ctx context.Context) clientv3.Txn {
	t := u.KV.Txn(ctx)
	if !u.write {
		return t
	}
	u.write, u.read = false, true
	return unansweredTxn{t}
}

type unansweredTxn struct{ clientv3.Txn }

func (t unansweredTxn) If(c ...clientv3.Cmp) clientv3.Txn { return unansweredTxn{t.Txn.If(c...)} }

func (t unansweredTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	return unansweredTxn{t.Txn.Then(ops...)}
}

func (t unansweredTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	return unansweredTxn{t.Txn.Else(ops...)}
}

func (t unansweredTxn) Commit() (*clientv3.TxnResponse, error) {
	if _, err := t.Txn.Commit(); err != nil {
		return nil, err
	}
	return nil, context.DeadlineExceeded
}

func TestOperatorsAtTheSameTimeOverwriteNothingOfEachOther(t *testing.T) {
	r := newRig(t)
	r.start(planOf("1.1.0"))
	var all sync.WaitGroup
	var mu sync.Mutex
	did := map[string]int{}
	for i := range 6 {
		all.Go(func() {
			act := Act{By: fmt.Sprint("operator ", i)}
			for range 5 {
				for _, do := range []func(context.Context, Act) (Plan, error){r.operator.Pause, r.operator.Resume} {
					_, err := do(t.Context(), act)
					if err != nil && !errors.Is(err, ErrState) {
						t.Error(err)
					}
					mu.Lock()
					if err == nil {
						did[act.By]++
					}
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	for _, record := range r.history()[0].Records[1:] {
		did[record.By]--
	}
	for who, n := range did {
		if n != 0 {
			t.Errorf("%s: %d more were said to be done than are in the history", who, n)
		}
	}
}

func TestBrakeIsPulledWithAndWithoutARolloutAndIsRecorded(t *testing.T) {
	r := newRig(t)
	carol := Act{By: "carol", Reason: "the database is down"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(r.operator.Unfreeze(t.Context(), carol))
	must(r.operator.Freeze(t.Context(), carol, false))
	p := r.start(planOf("1.1.0"))
	must(r.operator.Freeze(t.Context(), carol, true))
	v := r.status()
	if v.Freeze == nil || !v.Freeze.Reverts || v.Freeze.By != "carol" || v.Freeze.Reason != carol.Reason || v.Plan.History != p.History {
		t.Errorf("frozen: %+v, plan %+v", v.Freeze, v.Plan)
	}
	must(r.operator.Unfreeze(t.Context(), carol))
	if v := r.status(); v.Freeze != nil {
		t.Errorf("it is still pulled: %+v", v.Freeze)
	}
	all := r.history()
	if last := all[len(all)-1]; last.Rollout != "freeze" || events(last) != "frozen frozen unfrozen" || last.Records[2].By != "carol" {
		t.Errorf("history: %+v", last)
	}
	// Whatever lies there: the brake works.
	for _, junk := range []string{"zzz", "99999999", "100000000"} { // the last of them is before the one before it
		_, err := r.client.Put(t.Context(), r.operator.keys.records("freeze")+junk, "junk")
		must(err)
	}
	must(r.operator.Freeze(t.Context(), carol, false))
	must(r.operator.Unfreeze(t.Context(), carol))
	must(r.operator.Freeze(t.Context(), carol, false))
	if seq, _, err := r.operator.tail(t.Context(), freezeChain); seq != 6 {
		t.Errorf("its last record is number %d, %v", seq, err)
	}
	// And one that cannot be read is pulled.
	_, err := r.client.Put(t.Context(), r.operator.keys.freeze(), "{")
	must(err)
	s, err := r.operator.now(t.Context())
	must(err)
	if v := s.view(); v.Freeze == nil || !v.Freeze.Reverts || v.Trouble == "" {
		t.Errorf("a brake that cannot be read: %+v, %v", v.Freeze, v.Trouble)
	}
}

// TestHistoryThatIsNotWholeShows whatever was done to it.
func TestHistoryThatIsNotWholeShows(t *testing.T) {
	r := newRig(t)
	first := r.start(planOf("1.1.0"))
	for range 2 {
		for _, do := range []func(context.Context, Act) (Plan, error){r.operator.Pause, r.operator.Resume} {
			if _, err := do(t.Context(), Act{By: "bob"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	second := r.start(planOf("1.2.0"), StartOptions{Replace: true})
	r.history()
	k := r.operator.keys
	// In the order in which they are put back: the newest rollout is the one that began last.
	all, err := r.client.Get(t.Context(), k.history(), clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		t.Fatal(err)
	}
	value := func(key string) string {
		i := slices.IndexFunc(all.Kvs, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == key })
		return string(all.Kvs[i].Value)
	}
	third, last := k.record(first.ID, 3), k.record(first.ID, 6)
	for name, c := range map[string]struct {
		op   clientv3.Op
		want string
	}{
		"who did it was changed": {clientv3.OpPut(third, strings.Replace(value(third), "bob", "eve", 1)), "record 3"},
		"written again the same": {clientv3.OpPut(third, value(third)), "record 3 was written twice"},
		"one is missing":         {clientv3.OpDelete(third), "record 3 is missing"},
		"the first is missing":   {clientv3.OpDelete(k.record(first.ID, 1)), "record 1 is missing"},
		"the last of an earlier": {clientv3.OpDelete(last), "its last record"},
		"the last of the plan's": {clientv3.OpDelete(k.record(second.ID, 1)), "which the plan names"},
		"one too many":           {clientv3.OpPut(k.records(first.ID)+"x", "{}"), "want a record"},
		"another's":              {clientv3.OpPut(last, value(third)), "says that it is record 3"},
		"no JSON":                {clientv3.OpPut(third, "{"), "record 3 cannot be read"},
		"of a later version":     {clientv3.OpPut(third, `{"schema":2}`), "schema 2"},
	} {
		if _, err := r.client.Do(t.Context(), c.op); err != nil {
			t.Fatal(err)
		}
		past, err := r.operator.History(t.Context(), HistoryOptions{})
		if !errors.Is(err, ErrHistory) || !strings.Contains(err.Error(), c.want) || len(past) == 0 {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.client.Delete(t.Context(), k.history(), clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		for _, kv := range all.Kvs {
			if _, err := r.client.Put(t.Context(), string(kv.Key), string(kv.Value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.history()
}

func TestHistoryAndDocumentsDoNotGrowWithoutBound(t *testing.T) {
	r := newRig(t)
	var last Plan
	for i := range HistorySize + 3 {
		p := planOf("1.1.0")
		p.Target = Target{Config: &ConfigTarget{Scope: "global"}}
		last = r.start(p, StartOptions{Replace: true, Document: fmt.Appendf(nil, "n: %d\n", i)})
	}
	all := r.history()
	if len(all) != HistorySize || all[0].Rollout != last.ID {
		t.Errorf("%d rollouts are kept, the newest is %s", len(all), all[0].Rollout)
	}
	documents, err := r.client.Get(t.Context(), r.operator.keys.documents(), clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil || len(documents.Kvs) != 2 || string(documents.Kvs[0].Value) != nothing || digestOf(documents.Kvs[1].Value) != last.Target.Config.Digest {
		t.Errorf("documents that are kept: %v, %v", documents.Kvs, err)
	}
	one, err := r.operator.History(t.Context(), HistoryOptions{Rollout: all[3].Rollout})
	if err != nil || len(one) != 1 || one[0].Rollout != all[3].Rollout {
		t.Errorf("one of them: %+v, %v", one, err)
	}
}

// TestHistoryOfTheBrakeDoesNotGrowWithoutBound: a job may pull it every night for years.
func TestHistoryOfTheBrakeDoesNotGrowWithoutBound(t *testing.T) {
	r := newRig(t)
	for range keepFreezes/2 + 3 {
		if err := errors.Join(r.operator.Freeze(t.Context(), Act{}, false), r.operator.Unfreeze(t.Context(), Act{})); err != nil {
			t.Fatal(err)
		}
	}
	all := r.history()
	if len(all) != 1 || len(all[0].Records) != keepFreezes || all[0].Records[0].Seq != 7 {
		t.Errorf("%d records are kept, from %d on", len(all[0].Records), all[0].Records[0].Seq)
	}
}

func TestRolloutOfADocumentKeepsWhatItGoesBackTo(t *testing.T) {
	r := newRig(t)
	if _, err := r.client.Put(t.Context(), "/agents/config/group/web", "a: 1\n"); err != nil {
		t.Fatal(err)
	}
	p := planOf("1.1.0")
	p.Target = Target{Config: &ConfigTarget{Scope: "group/web"}}
	p = r.start(p, StartOptions{Document: []byte("a: 2\n")})
	for digest, want := range map[string]string{p.Target.Config.Digest: "a: 2\n", p.Previous.Config.Digest: "a: 1\n"} {
		if got, err := r.operator.document(t.Context(), digest); err != nil || string(got) != want {
			t.Errorf("document %s: %q, %v", digest, got, err)
		}
	}
	if p.Previous.Config.Scope != "group/web" || p.Over != p.Previous.Config.Digest {
		t.Errorf("previous: %+v, over %s", p.Previous.Config, p.Over)
	}
	if !(&Publication{}).MayReplace([]byte("a: 1\n")) {
		t.Error("the rollout of an older version, which does not know what it was begun over, cannot complete")
	}
	// Once it has completed, the scope's own is the one to leave.
	q := planOf("1.1.0")
	q.Target = Target{Config: &ConfigTarget{Scope: "global"}}
	q = r.start(q, StartOptions{Document: []byte("a: 2\n"), Replace: true})
	if got, err := r.operator.document(t.Context(), q.Previous.Config.Digest); err != nil || string(got) != nothing {
		t.Errorf("of a scope without a document %q is kept, %v", got, err)
	}
}

func TestWatchShowsEachChangeAndEndsAtWhatItCannotRead(t *testing.T) {
	r := newRig(t)
	views := make(chan View, 100)
	done := make(chan error, 1)
	go func() { done <- r.operator.Watch(t.Context(), func(v View) { views <- v }) }()
	if v := waittest.Next(t, "the first view", views); v.Plan != nil || v.Leader != nil || v.Freeze != nil {
		t.Errorf("without anything there is %+v", v)
	}
	p := r.start(planOf("1.1.0"))
	if v := waittest.Next(t, "the plan", views); v.Plan == nil || v.Plan.ID != p.ID || v.Revision == 0 {
		t.Errorf("after the start there is %+v", v)
	}
	if _, err := r.client.Put(t.Context(), r.operator.keys.plan(), `{"schema":2}`); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "it ends", done); err == nil || !strings.Contains(err.Error(), "schema 2") {
		t.Errorf("a plan of a later version: %v", err)
	}
}
