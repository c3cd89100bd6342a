package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/election"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

const (
	// lookApart is the least distance between two looks at what has changed. Where
	// deciding takes long, as with a fleet of ten thousand, it is lookShare times
	// as long, at most lookApartMost: agents that report one by one are not worth
	// a look each.
	lookApart     = 20 * time.Millisecond
	lookApartMost = 200 * time.Millisecond
	lookShare     = 9
	// lookEvery is the most.
	lookEvery = 15 * time.Second
	// booksEvery is the least distance of writes of the books alone.
	booksEvery = time.Second
	// stepsAtOnce bounds the writes of one look.
	stepsAtOnce = 100
)

var (
	// errReset ends a term whose view of etcd is worth nothing any more.
	errReset = errors.New("etcd is another, or went back in time")
	// errBlind: the agents are not seen as they are.
	errBlind = errors.New("the agents of the fleet are not seen")
)

// term is the time for which a controller is elected. What is not behind mu is
// of the goroutine of run.
type term struct {
	*Controller
	revision int64 // of the election
	guard    clientv3.Cmp
	checks   *inquiry
	teller   *teller
	told     string // what kept the rollout from moving on; "" = nothing
	trouble  trouble
	rights   rights
	wroteAt  time.Time     // the books, alone
	thought  time.Duration // by the present look, to decide

	bell chan struct{}
	mu   sync.Mutex
	at   standing // as far as it is known
	read bool     // at has been read
	// since is the revision of this controller's own last write: what the watch
	// tells of before is older.
	since int64
	// mine are the books that it has written last, or is about to write, and their
	// text: they need not be read again when the watch is faster than the answer.
	mine     *Books
	mineText string
	reset    bool
	fleet    *Snapshot // nil before the first
	gone     Departures
	stale    error
}

func newTerm(c *Controller, revision int64) *term {
	t := &term{Controller: c, revision: revision, guard: election.Guard(c.keys.leader(), revision), bell: make(chan struct{}, 1)}
	t.checks = newInquiry(c.checkers, t.ring)
	t.teller = newTeller(c, t.ring)
	return t
}

// ring has run look again, once however often it is rung.
func (t *term) ring() {
	select {
	case t.bell <- struct{}{}:
	default:
	}
}

// run moves rollouts on until ctx ends, or etcd is another or an older one.
func (t *term) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var with sync.WaitGroup
	defer with.Wait()
	defer t.checks.wait()
	defer cancel(nil) // before it waits: a check may take an hour
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: t.client, Keys: t.keys.watched(), Coalesce: -1, OnChange: t.receive, Logger: t.cfg.Logger,
	})
	if err != nil {
		return err
	}
	with.Go(func() { _ = w.Run(ctx) }) // its error is ctx's
	with.Go(func() { cancel(t.cfg.Agents.Watch(ctx, t.see, t.doubt)) })
	with.Go(func() { t.teller.run(ctx) })
	retry := backoff.Backoff{Max: 5 * time.Second}
	wake := time.NewTimer(lookEvery)
	defer wake.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.bell:
		case <-wake.C:
		}
		t.thought = 0
		next, err := t.look(ctx)
		if lost := t.rights.lost(err, t.cfg.TTL, time.Now()); lost != nil {
			return lost
		}
		pause := min(max(lookApart, lookShare*t.thought), lookApartMost)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, election.ErrDeposed), errors.Is(err, errReset):
			return err
		case errors.Is(err, errBlind): // it tells when it sees again
		case err != nil:
			pause, next = retry.Next(), 0
		default:
			retry.Reset()
		}
		t.say(err)
		t.confide(ctx, err)
		wake.Reset(next)
		_ = backoff.Sleep(ctx, pause) // the loop sees ctx's end
	}
}

// say logs what keeps a rollout from moving on, once.
func (t *term) say(err error) {
	level, text := slog.LevelDebug, ""
	if err != nil {
		text = err.Error()
	}
	if text != t.told {
		level, t.told = slog.LevelWarn, text
	}
	if err != nil {
		t.cfg.Logger.Log(context.Background(), level, "a rollout does not move on", "name", t.keys.fleet, "error", err)
	}
}

// receive takes over what the watch shows of the rollout. What this controller
// has written itself, or read since, it may know before the watch does.
func (t *term) receive(v etcdkv.View) {
	t.mu.Lock()
	defer t.mu.Unlock()
	news := v.Reset || !t.read
	before := t.at.mods()
	t.reset = t.reset || v.Reset
	for _, key := range t.keys.watched() {
		value, there := v.Values[key]
		switch {
		case there && value.ModRevision >= t.since:
			t.learn(key, &value)
		case v.Reached(key) < t.since:
		case there:
			t.learn(key, &value)
		default:
			t.at.take(t.keys, key, nil)
		}
	}
	t.at.revision, t.read = max(t.at.revision, v.Revision), true
	if news || t.at.mods() != before {
		t.ring() // else it is what this controller has written itself, and decided upon
	}
}

// learn takes over what the watch shows of a key.
func (t *term) learn(key string, v *etcdkv.Value) {
	if key == t.keys.books() && t.mine != nil && string(v.Data) == t.mineText {
		t.at.books = known[Books]{value: t.mine, mod: v.ModRevision, created: v.CreateRevision}
		return
	}
	t.at.take(t.keys, key, v)
}

// writes notes which books are about to be written.
func (t *term) writes(b *Books, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mine, t.mineText = b, text
}

// see takes over the agents as they are.
func (t *term) see(s Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fleet = &s
	t.gone.See(s.Members, time.Now())
	t.ring()
}

// doubt takes what keeps the agents from being seen as they are.
func (t *term) doubt(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stale = err
	t.ring()
}

// look does what there is to do, and returns when to look again at the latest.
func (t *term) look(ctx context.Context) (next time.Duration, err error) {
	o := Observation{Elected: true}
	defer func() {
		if o.Err = err; ctx.Err() == nil {
			t.cfg.Observe(o)
		}
	}()
	for range stepsAtOnce {
		t.mu.Lock()
		at, fleet, stale, read, reset := t.at, t.fleet, t.stale, t.read, t.reset
		t.mu.Unlock()
		v := at.view()
		o.Plan, o.Freeze, o.Blind = v.Plan, v.Freeze, fleet == nil || stale != nil
		if v.Books != nil {
			o.Books = *v.Books
		}
		if fleet != nil {
			o.Snapshot = *fleet
		}
		switch {
		case reset:
			return 0, errReset
		case !read:
			return lookEvery, nil
		case at.plan.err != nil:
			return lookEvery, at.plan.err
		case v.Plan == nil:
			return lookEvery, nil
		case at.books.err != nil:
			// Without them those who are under way and not in the registry are not
			// counted: a later version knows, or an operator who deletes them.
			return lookEvery, fmt.Errorf("%w: let a controller of the version that wrote it be elected, or delete it when nobody is under way", at.books.err)
		case fleet == nil:
			return lookEvery, fmt.Errorf("%w yet", errBlind)
		case stale != nil:
			return lookEvery, fmt.Errorf("%w as they are: %w", errBlind, stale)
		case fleet.Revision < v.Plan.Cursor.counted() && !v.Plan.foreign(at.plan.mod):
			return lookEvery, fmt.Errorf("%w as of revision %d, only as of %d", errBlind, v.Plan.Cursor.counted(), fleet.Revision)
		}
		again, wait, err := t.step(ctx, at, *fleet)
		if err != nil || !again {
			return wait, err
		}
	}
	return 0, nil
}

// step decides once, and writes what it comes to. again: there is more to
// decide on top of it.
func (t *term) step(ctx context.Context, at standing, fleet Snapshot) (again bool, next time.Duration, err error) {
	now := time.Now().UTC()
	v := at.view()
	in := Input{Plan: *v.Plan, Snapshot: fleet, Freeze: v.Freeze, Now: now, CheckResults: t.checks.results(v.Plan)}
	t.mu.Lock()
	t.gone.Tell(&in, time.Now())
	t.mu.Unlock()
	if at.books.value != nil {
		in.Books = *at.books.value // also of the rollout before: its agents may still be at it
	}
	foreign := in.Plan.foreign(at.plan.mod)
	if foreign {
		in.Plan.Cursor.recount(fleet.Revision)
	}
	began := time.Now()
	out, err := Decide(in)
	t.thought += time.Since(began)
	if foreign {
		// Whoever joined before etcd went back is in no snapshot, and does not know.
		out.Plan.Cursor.Unsure = true
	}
	if foreign && err == nil && !out.Changed {
		out.Changed, out.Draft = true, Draft{EventRecounted, "the agents were counted anew: the plan is of another etcd, or of before this one went back in time", out.Figures}
	}
	if err != nil {
		return false, lookEvery, fmt.Errorf("rollout %s: %w", in.Plan.ID, err)
	}
	t.checks.ask(ctx, out.Ask, v.Plan)
	t.teller.follow(v.Plan, at.books.value)
	before := out.Books.Told
	out.Books.Told = max(before, t.teller.told(v.Plan))
	if out.Changed {
		if t.teller.idle() && out.Books.Told == in.Plan.Seq {
			out.Books.Told++ // the record that is written with it
		}
		again, err = t.move(ctx, at, in, out)
		return again, 0, err
	}
	next = lookEvery
	if !out.Wake.IsZero() {
		next = min(next, max(out.Wake.Sub(now), 0))
	}
	// Who was told waits for a write that there is anyhow, as long as more are to
	// come.
	if out.BooksChanged || out.Books.Told > before && in.Plan.State.Over() {
		if early := booksEvery - time.Since(t.wroteAt); early > 0 {
			return false, min(next, early), nil
		}
		again, err = t.keep(ctx, at, out.Books)
	}
	return again, next, err
}

// move writes a plan that has changed, with the record and the books.
func (t *term) move(ctx context.Context, at standing, in Input, out Output) (again bool, err error) {
	d := draft{
		before: in.Plan, plan: out.Plan, over: at.plan.mod,
		record: Record{
			At: in.Now, By: "controller " + t.cfg.ID, Event: out.Draft.Event, Why: out.Draft.Why, Figures: out.Draft.Figures,
		},
		// A brake that is pulled meanwhile holds up this step, too.
		when: []clientv3.Cmp{t.guard, clientv3.Compare(clientv3.ModRevision(t.keys.freeze()), "=", at.freeze.mod)},
	}
	out.Books.Schema = Schema
	books, err := encode(out.Books)
	if err != nil {
		return false, err
	}
	t.writes(&out.Books, books)
	d.then = []clientv3.Op{clientv3.OpPut(t.keys.books(), books)}
	if err := t.settle(ctx, &d, in.Now); err != nil {
		return false, err
	}
	w, err := t.keys.seal(d)
	if err != nil {
		return false, err
	}
	revision, done, found, err := t.commit(ctx, w.when, w.then)
	if err != nil || !done {
		if err = t.refused(ctx, found, err); err == nil {
			err = t.stray(ctx, w, at.plan.mod)
		}
		return true, err
	}
	if revision <= in.Snapshot.Revision {
		// It was counted in what this etcd was before. Agents see that, too, and
		// begin nothing; the next term counts anew.
		return false, fmt.Errorf("%w: the agents were counted at revision %d, and that is written at %d", errReset, in.Snapshot.Revision, revision)
	}
	t.cfg.Logger.Info("a rollout moves on", "name", w.plan.ID, "action", string(w.record.Event), "state", string(w.plan.State), "reason", w.record.Why)
	t.wrote(revision, func(s *standing) {
		s.plan.value, s.plan.mod = &w.plan, revision
		s.books.value, s.books.mod = &out.Books, revision
	})
	return true, nil
}

// keep writes the books alone.
func (t *term) keep(ctx context.Context, at standing, b Books) (again bool, err error) {
	b.Schema = Schema
	value, err := encode(b)
	if err != nil {
		return false, err
	}
	t.writes(&b, value)
	t.wroteAt = time.Now()
	revision, done, found, err := t.commit(ctx, []clientv3.Cmp{
		t.guard, clientv3.Compare(clientv3.ModRevision(t.keys.plan()), "=", at.plan.mod),
	}, []clientv3.Op{clientv3.OpPut(t.keys.books(), value)})
	if err != nil || !done {
		return true, t.refused(ctx, found, err)
	}
	t.wrote(revision, func(s *standing) { s.books.value, s.books.mod, s.books.err = &b, revision, nil })
	return false, nil
}

// wrote takes over what this controller has written itself.
func (t *term) wrote(revision int64, edit func(*standing)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if max(t.at.plan.mod, t.at.books.mod) < revision { // else the watch was faster
		t.since = revision
		edit(&t.at)
	}
}

// refused takes over what was found where a write was refused: the plan of an
// operator who was faster. After err, of a write whose end is not known, it looks
// what there is. Its error is what ends the term, or err.
func (t *term) refused(ctx context.Context, found standing, err error) error {
	if err != nil {
		var failed error
		if found, failed = t.now(ctx); failed != nil {
			return err
		}
	}
	if found.leader.created != t.revision {
		return errors.Join(election.ErrDeposed, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if found.revision >= max(t.since, t.at.revision) {
		t.at, t.since = found, found.revision
	}
	return err
}
