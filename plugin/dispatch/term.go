package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/election"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/tracing"
)

const (
	// coalesce is the least distance between two looks at what has changed.
	coalesce = 20 * time.Millisecond
	// lookEvery is the most between two looks.
	lookEvery = 10 * time.Second
	// maxView bounds what is watched, in bytes. A queue that does not fit would
	// not be seen, and never become shorter: this is half of etcd's default
	// quota, which holds older versions as well.
	maxView = 1 << 30
	// answerWithin is how long an agent may take beyond a deadline to say that
	// a task was cut off.
	answerWithin = 30 * time.Second
)

// term is the time for which a dispatcher is elected. All but the events is of
// the goroutine of run.
type term struct {
	*Dispatcher
	committer
	revision int64 // of the election
	model    *model
	stale    bool   // the last look found its view out of date
	told     string // what kept tasks from being assigned; "" = nothing

	bell   chan struct{}
	mu     sync.Mutex
	events []event
	views  map[string]int64 // revisions up to which all is in events, by prefix
	reset  bool

	collected time.Time // when finished tasks were last looked at
	collectAt time.Time
}

// event is what a key has become.
type event struct {
	key   string
	value *etcdkv.Value // nil = deleted
	seen  int64
}

func newTerm(d *Dispatcher, revision int64) *term {
	return &term{
		Dispatcher: d,
		committer: committer{client: d.cfg.Client, guard: []clientv3.Cmp{
			election.Guard(d.keys.leader(), revision),
		}},
		revision: revision,
		model:    newModel(d.keys, d.cfg.Logger),
		bell:     make(chan struct{}, 1),
		views:    map[string]int64{},
	}
}

// run assigns tasks until ctx ends, or etcd is another or an older one.
//
// What tasks ask for is read when they show up, not watched: it never changes,
// and would be in memory long after its task has finished.
func (t *term) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel()
	prefixes := []string{t.keys.states(), t.keys.workers(), t.keys.outcomes()}
	for _, prefix := range prefixes {
		// One each: only then does a view say up to where it is complete.
		w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
			Client: t.cfg.Client, Prefixes: []string{prefix}, Coalesce: coalesce, Logger: t.cfg.Logger,
			MaxBytes: maxView,
			OnChange: func(v etcdkv.View) { t.receive(prefix, v) },
			OnError: func(err error) {
				if err != nil {
					t.cfg.Logger.Warn("the dispatcher does not see its tasks", "error", err)
				}
			},
		})
		if err != nil {
			return err
		}
		watches.Go(func() { _ = w.Run(ctx) }) // its error is ctx's
	}
	retry, again := backoff.Backoff{Max: 5 * time.Second}, backoff.Backoff{Min: coalesce, Max: time.Second}
	wake := time.NewTimer(lookEvery)
	defer wake.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.bell:
		case <-wake.C:
		}
		began := time.Now()
		t.stale = false
		next, err := t.look(ctx)
		pause := time.Until(began.Add(coalesce))
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, election.ErrDeposed), errors.Is(err, errReset), errors.Is(err, rpctypes.ErrPermissionDenied):
			return err
		case err != nil:
			// What fails is there to do again, whatever rings.
			pause, next = retry.Next(), 0
		case t.stale:
			pause, next = max(pause, again.Next()), 0
		default:
			retry.Reset()
			again.Reset()
		}
		t.tell(err)
		wake.Reset(next)
		_ = backoff.Sleep(ctx, pause) // the loop sees ctx's end
	}
}

// tell logs what keeps tasks from being assigned, once.
func (t *term) tell(err error) {
	level, text := slog.LevelDebug, ""
	if err != nil {
		text = err.Error()
	}
	if text != t.told {
		level, t.told = slog.LevelWarn, text
	}
	if err != nil {
		t.cfg.Logger.Log(context.Background(), level, "tasks could not be assigned", "error", err)
	}
}

// errReset ends a term whose view of etcd is worth nothing any more.
var errReset = errors.New("etcd is another, or went back in time")

// receive takes over what has changed below a prefix.
func (t *term) receive(prefix string, v etcdkv.View) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reset = t.reset || v.Reset
	t.views[prefix] = v.Revision
	for _, key := range v.Changed {
		e := event{key: key, seen: v.Revision}
		if value, ok := v.Values[key]; ok {
			e.value = &value
		}
		t.events = append(t.events, e)
	}
	ring(t.bell)
}

// look takes in what has changed and does what there is to do. It returns when
// to look again at the latest.
func (t *term) look(ctx context.Context) (time.Duration, error) {
	t.mu.Lock()
	reset, complete, seen := t.reset, len(t.views) == 3, t.views[t.keys.states()]
	var events []event
	if complete {
		events, t.events = t.events, nil
	}
	t.mu.Unlock()
	switch {
	case reset:
		return 0, errReset
	case !complete:
		return lookEvery, nil
	}
	m := t.model
	for _, e := range events {
		m.apply(e)
	}
	m.forget(seen)
	at := time.Now()
	suspects := m.suspects(at)
	if err := t.refresh(ctx, suspects); err != nil {
		return 0, err // they remain
	}
	m.checkedAt(suspects, at)
	m.presence(at, t.cfg.Grace)
	steps := []func(context.Context) error{t.fold, t.withdraw, t.end, t.spread, t.assign, t.collect}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return 0, err
		}
	}
	return t.model.wait(time.Now(), t.cfg.Grace, t.collectAt), nil
}

// move is what is to become of a task.
type move struct {
	task *task
	next *record
	change
	folds *told        // the outcome that this takes over; nil = none
	span  tracing.Span // of an assignment
}

// moveTo begins the move of a task to a record.
func (t *term) moveTo(k *task, next *record) (move, error) {
	c, err := t.keys.move(k.id, k.record, next, k.revision)
	return move{task: k, next: next, change: c}, err
}

// clear has the move delete what the task has at its agent. What a task that is
// finished has yielded stays.
func (t *term) clear(m *move) {
	agent, id := m.task.record.Agent, m.task.id
	m.remove(t.keys.inbox(agent, id))
	m.remove(t.keys.claim(agent, id))
	if m.task.record.Cancel != nil {
		m.remove(t.keys.inbox(agent, id) + cancelSuffix)
	}
	if m.next.State.Finished() {
		return
	}
	m.dropTail(t.keys, id, m.next)
	if was := m.task.record.Segments; len(m.next.Segments) < len(was) && len(was) > 1 {
		m.remove(t.keys.result(was[0].Agent, id, was[0].From), clientv3.WithRange(t.keys.result(was[0].Agent, id, was[1].From)))
	}
}

// perform writes moves, and brings the model up to date with what became of
// them. What was refused is read anew.
func (t *term) perform(ctx context.Context, moves []move) error {
	changes := make([]change, len(moves))
	for i := range moves {
		changes[i] = moves[i].change
	}
	var refused []string
	var failed error
	verdicts := t.commit(ctx, changes)
	for i, m := range moves {
		m.span.End(verdicts[i].err)
		switch v := verdicts[i]; {
		case v.err == nil:
			t.model.set(m.task, m.next, v.revision)
			if m.folds != nil {
				delete(t.model.outcomes, m.folds.agent+"/"+m.folds.id)
			}
			if m.next.State.Finished() {
				t.collectBy(m.next.Expires)
			}
		case errors.Is(v.err, errRefused):
			m.task.refused = m.task.revision
			refused = append(refused, m.task.id)
		default:
			t.model.strange[m.task.id] = true // it may have been done
			failed = v.err
		}
	}
	if err := t.reread(ctx, refused); err != nil {
		return err
	}
	return failed
}

// reread reads tasks of which a write was refused, and has another look
// follow.
func (t *term) reread(ctx context.Context, refused []string) error {
	t.stale = t.stale || len(refused) > 0
	return t.refresh(ctx, refused)
}

// refresh reads tasks again, and that the office is held.
func (t *term) refresh(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	for len(ids) > 0 {
		n := min(len(ids), maxOps/2-1)
		ops := []clientv3.Op{clientv3.OpGet(t.keys.leader())}
		for _, id := range ids[:n] {
			ops = append(ops, clientv3.OpGet(t.keys.state(id)), clientv3.OpGet(t.keys.spec(id)))
		}
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		r, err := t.client.Txn(limited).Then(ops...).Commit()
		cancel()
		if err != nil {
			return fmt.Errorf("read tasks: %w", err)
		}
		leader := r.Responses[0].GetResponseRange().GetKvs()
		if len(leader) == 0 || leader[0].CreateRevision != t.revision {
			return election.ErrDeposed
		}
		for i, id := range ids[:n] {
			for j, key := range []string{t.keys.state(id), t.keys.spec(id)} {
				e := event{key: key, seen: r.Header.Revision}
				for _, kv := range r.Responses[1+2*i+j].GetResponseRange().GetKvs() {
					e.value = &etcdkv.Value{Data: kv.Value, ModRevision: kv.ModRevision, CreateRevision: kv.CreateRevision, Lease: kv.Lease}
				}
				t.model.apply(e)
			}
		}
		ids = ids[n:]
	}
	return nil
}

// ring wakes the one that listens, once however often it is rung.
func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
