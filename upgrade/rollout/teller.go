package rollout

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/perennial-go/perennial/internal/backoff"
)

// teller tells whoever is to be told of the records of rollouts, in their order.
// What waits is in the history, not in memory; how far it has got goes to the
// books, so that another controller goes on there.
type teller struct {
	*Controller
	progress func()
	bell     chan struct{}

	mu    sync.Mutex
	tales []tale // the oldest first; the last one is of the plan
	// passed is the rollout of which nothing is left to be told, where nobody is to
	// be told: whoever comes after with webhooks begins with what is new then.
	passed string
}

// tale is a rollout whose records are told.
type tale struct {
	rollout    string
	told, last int64 // numbers of records; last = 0: up to its end
}

func newTeller(c *Controller, progress func()) *teller {
	return &teller{Controller: c, progress: progress, bell: make(chan struct{}, 1)}
}

// idle reports whether nobody is to be told.
func (t *teller) idle() bool { return t.cfg.Notify == nil && len(t.hooks) == 0 }

// follow has the records told up to the one that p names. books, which may be of
// the rollout before, say how far that has got already.
func (t *teller) follow(p *Plan, books *Books) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle() {
		// What another controller was still to tell stays to be told by it.
		if books == nil || books.Rollout != p.ID || books.Told == 0 || books.Told+1 >= p.Seq {
			t.passed = p.ID
		}
		return
	}
	if len(t.tales) == 0 && books != nil && books.Rollout != "" {
		t.tales = append(t.tales, tale{rollout: books.Rollout, told: books.Told})
	}
	n := len(t.tales)
	if n == 0 || t.tales[n-1].rollout != p.ID {
		if n > 0 {
			t.tales[n-1].last = 0
		}
		t.tales = append(t.tales, tale{rollout: p.ID})
		n++
	}
	if last := &t.tales[n-1]; last.last != p.Seq {
		last.last = p.Seq
		select {
		case t.bell <- struct{}{}:
		default:
		}
	}
}

// told is the number of the last record of p's rollout that was told, or that
// nobody is to be told of.
func (t *teller) told(p *Plan) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	rollout := p.ID
	if t.passed == rollout {
		return p.Seq
	}
	if i := slices.IndexFunc(t.tales, func(a tale) bool { return a.rollout == rollout }); i >= 0 {
		return t.tales[i].told
	}
	return 0
}

// run tells until ctx ends.
func (t *teller) run(ctx context.Context) {
	if t.idle() {
		return
	}
	retry := backoff.Backoff{Max: 30 * time.Second}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.bell:
		}
		for ctx.Err() == nil {
			now, more := t.next()
			if !more {
				break
			}
			if err := t.tell(ctx, now); err != nil {
				_ = retry.Wait(ctx) // an etcd that is away: others tell of it
				continue
			}
			retry.Reset()
		}
	}
}

// next is what is to be told now. What has been told to its end is dropped, but
// for what is of the plan.
func (t *teller) next() (tale, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.tales) > 1 && t.tales[0].last < 0 {
		t.tales = t.tales[1:]
	}
	if len(t.tales) == 0 {
		return tale{}, false
	}
	first := t.tales[0]
	return first, len(t.tales) > 1 || first.told < first.last
}

// tell tells the records of a rollout that there are by now.
func (t *teller) tell(ctx context.Context, a tale) error {
	err := t.each(ctx, a.rollout, a.told+1, func(kv *mvccpb.KeyValue) {
		var r Record
		if ctx.Err() != nil || decode(string(kv.Key), kv.Value, maxRecord, &r) != nil {
			return // what cannot be read shows in the history
		}
		t.one(ctx, r, string(kv.Value))
		if ctx.Err() == nil {
			t.reached(a.rollout, r.Seq)
		}
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	t.reached(a.rollout, a.last) // whatever was missing or could not be read
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.tales) > 1 && t.tales[0].rollout == a.rollout {
		t.tales[0].last = -1 // there is no more of it
	}
	return nil
}

// reached notes how far the records of a rollout have been told.
func (t *teller) reached(rollout string, seq int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.tales {
		if t.tales[i].rollout == rollout {
			t.tales[i].told = max(t.tales[i].told, seq)
		}
	}
	t.progress()
}

// one tells everybody of a record, and waits until all have been told.
func (t *teller) one(ctx context.Context, r Record, line string) {
	if t.cfg.Notify != nil {
		t.cfg.Notify(ctx, r)
	}
	var telling sync.WaitGroup
	for i := range t.hooks {
		if h := &t.hooks[i]; h.wants(r.Event) {
			telling.Go(func() { h.tell(ctx, t.web, line, digestOf([]byte(line)), t.cfg.Logger) })
		}
	}
	telling.Wait()
}
