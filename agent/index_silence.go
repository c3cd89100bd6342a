package agent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

// An etcd that is gone does not tell its watches: one finds out by its own
// silence, after etcdkv.MaxSilence. Who looks at a fleet is to know before.
const (
	silentAfter  = 5 * time.Second // then etcd is asked
	answerBefore = 5 * time.Second
)

// trouble is what keeps an index from being up to date.
type trouble struct {
	mu               sync.Mutex // held while told, which is so never called concurrently
	tell             func(error)
	watching, asking error // as the watch tells, and as etcd answers
	told             atomic.Pointer[error]
}

// watch takes what the watch tells.
func (t *trouble) watch(err error) { t.note(&t.watching, err) }

// ask takes how etcd answers where the watch is silent.
func (t *trouble) ask(err error) { t.note(&t.asking, err) }

func (t *trouble) note(which *error, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*which = err
	now := t.watching
	if now == nil {
		now = t.asking
	}
	if fmt.Sprint(now) != fmt.Sprint(t.now()) {
		t.told.Store(&now)
		t.tell(now)
	}
}

// now is what was told last.
func (t *trouble) now() error {
	if err := t.told.Load(); err != nil {
		return *err
	}
	return nil
}

// listen asks etcd for an answer while the watch is silent, until ctx ends. In a
// fleet of any size the agents' own writes are answer enough.
func (x *Index) listen(ctx context.Context) {
	for backoff.Sleep(ctx, backoff.Jitter(silentAfter, 0.2)) == nil {
		if time.Since(x.watch.Heard()) < silentAfter {
			x.trouble.ask(nil)
			continue
		}
		limited, cancel := context.WithTimeout(ctx, answerBefore)
		_, err := x.client.Get(limited, x.keys.registry(""), clientv3.WithKeysOnly())
		if ctx.Err() != nil {
			cancel()
			return
		}
		if err != nil && !etcdkv.Unavailable(err) && limited.Err() == nil {
			err = nil // a refusal is an answer
		}
		cancel()
		if err != nil {
			if cause := etcdkv.LastFailure(x.client); cause != nil {
				err = cause
			}
			err = fmt.Errorf("etcd at %s does not answer: %w", etcdkv.Endpoints(x.client), err)
		}
		x.trouble.ask(err)
	}
}
