package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

const (
	// lookAgain is how long what seems damaged may take to turn out to be the
	// first half of a transaction.
	lookAgain = 50 * time.Millisecond
	// mendQuiet is after how long without damage the pace of mending is
	// forgotten; mendPace is the slowest, where somebody goes on damaging.
	mendQuiet = time.Minute
	mendPace  = 5 * time.Second
	// staleEvery is how often the age of what is seen is looked at.
	staleEvery = 10 * time.Second
)

// restored says how often keys had to be written again.
type restored struct {
	count int64
	last  *Restored
}

// tend watches this agent's own keys until ctx ends, and writes again what
// somebody else deleted or changed: an operator who revokes a lease or deletes
// a key would else hide a live agent until its next beat, or for ever.
func (p *presence) tend(ctx context.Context) error {
	k := p.registry.keys
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client:   p.client,
		Keys:     []string{k.registry(p.cfg.ID), k.status(p.cfg.ID)},
		Prefixes: []string{k.plugin(p.cfg.ID, "")},
		OnChange: p.look,
		Logger:   p.log,
	})
	if err != nil {
		return err
	}
	p.watch.Store(w)
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.restore(ctx); err != nil {
			cancel(err)
		}
	})
	_ = w.Run(ctx) // ends with ctx only, whose cause says why
	wg.Wait()
	return context.Cause(ctx)
}

func (p *presence) look(v etcdkv.View) {
	p.registry.member.shows(p.registry.keys.registry(p.cfg.ID), v)
	p.following.look()
	keys := p.registry.damage(v)
	p.hurt.Store(&keys)
	if len(keys) > 0 {
		ring(p.mend)
	}
}

// restore mends what look finds until ctx ends or another agent turns out to
// have the id. It waits a random part of Config.Spread first, as the keys of a
// whole fleet may be gone, and longer where somebody damages them again and
// again.
func (p *presence) restore(ctx context.Context) error {
	pace := backoff.Backoff{Min: time.Second, Max: mendPace}
	var last time.Time
	failed := false
	watched := time.NewTicker(staleEvery)
	defer watched.Stop()
	lapse := time.NewTimer(p.untilLapse())
	defer lapse.Stop()
	for {
		select {
		case <-p.mend:
		case <-watched.C:
			p.observeStaleness()
			continue
		case <-lapse.C:
			p.hush(nil)
			lapse.Reset(p.untilLapse())
			continue
		case <-ctx.Done():
			return nil
		}
		wait := lookAgain + spread(p.cfg.Spread)
		if failed || time.Since(last) < mendQuiet {
			wait += pace.Next()
		} else {
			pace.Reset()
		}
		if backoff.Sleep(ctx, wait) != nil {
			return nil
		}
		mended, err := p.mendKeys(ctx, *p.hurt.Load())
		if errors.Is(err, ErrDuplicate) {
			return err
		}
		if failed = err != nil; failed {
			p.log.Debug("keys of this agent not written again yet", "error", err)
			ring(p.mend)
		}
		if mended {
			last = time.Now()
		}
	}
}

// mendKeys writes this agent's keys again if some are damaged, and are its own
// to write.
func (p *presence) mendKeys(ctx context.Context, damaged []string) (mended bool, err error) {
	switch {
	case len(damaged) == 0:
		p.failure.Store(nil)
		return false, nil // it was half a transaction, or another write came first
	case p.upgrader.Successor() != 0:
		return false, nil // which tends them
	case p.yields():
		return false, errNotInCharge // perhaps
	}
	err = p.enlist(ctx)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		p.session.Renew() // it finds out, and registers under another
	}
	if err != nil {
		return false, err
	}
	p.noteRestored(damaged)
	return true, nil
}

func (p *presence) noteRestored(keys []string) {
	const named = 10
	told := keys[:min(len(keys), named)]
	p.log.Warn("somebody deleted, changed or added keys of this agent in etcd: they are as they were again", "count", len(keys), "key", strings.Join(told, " "))
	p.mu.Lock()
	p.restored.count++
	p.restored.last = &Restored{At: time.Now().UTC(), Key: keys[0], Keys: len(keys)}
	p.mu.Unlock()
	p.touchSoon() // deletes what was added, and shows it
}

// spread is a random part of d; 0 for a d that is not positive.
func spread(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return backoff.Jitter(d/2, 1)
}

// ring wakes the one that listens, once however often it is rung.
func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
