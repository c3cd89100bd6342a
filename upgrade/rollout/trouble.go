package rollout

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// troubleAfter is how long something must keep a rollout from moving on until
	// it is told of, and troubleEvery the least distance of two texts about it.
	troubleAfter = 2 * time.Second
	troubleEvery = 5 * time.Second
	// maxTrouble bounds Leader.Trouble, in bytes.
	maxTrouble = 1 << 10
)

// trouble is what an elected controller shows of what keeps it from moving the
// rollout on.
type trouble struct {
	since time.Time // zero = there is none
	wrote time.Time
	shown string
}

// due returns what to show, and whether that is to be written now.
func (t *trouble) due(err error, now time.Time) (text string, write bool) {
	if err == nil {
		t.since = time.Time{}
		return "", t.shown != ""
	}
	if t.since.IsZero() {
		t.since = now
	}
	text = plain(err.Error(), maxTrouble)
	return text, text != t.shown && now.Sub(t.since) >= troubleAfter && now.Sub(t.wrote) >= troubleEvery
}

// confide writes what keeps the rollout from moving on, nil = nothing, beside who
// is elected: people look at the status, and not at a controller's log. That it
// cannot be written is told there.
func (t *term) confide(ctx context.Context, err error) {
	now := time.Now()
	text, write := t.trouble.due(err, now)
	t.mu.Lock()
	leader := t.at.leader
	t.mu.Unlock()
	if !write || leader.value == nil || leader.created != t.revision {
		return
	}
	next := *leader.value
	next.Trouble = text
	value, err := encode(next)
	if err != nil {
		return
	}
	t.trouble.wrote = now
	_, done, _, err := t.commit(ctx, []clientv3.Cmp{t.guard}, []clientv3.Op{
		clientv3.OpPut(t.keys.leader(), value, clientv3.WithIgnoreLease()), // it stays that of the election
	})
	if err != nil {
		t.cfg.Logger.Debug("what keeps a rollout from moving on is not shown", "name", t.keys.fleet, "error", err)
	}
	if done {
		t.trouble.shown = text
	}
}
