package rollout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// sighting is what reading this agent's registration has shown.
type sighting struct {
	revision int64 // of etcd; 0 = nothing was read yet
	joined   int64 // 0 = it is not there
	err      error
}

// look reads an agent's registration as it is now.
func look(ctx context.Context, client *clientv3.Client, key string) sighting {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := client.Get(ctx, key, clientv3.WithKeysOnly())
	if err != nil {
		return sighting{err: fmt.Errorf("%s: %w", key, err)}
	}
	s := sighting{revision: r.Header.Revision}
	if len(r.Kvs) > 0 {
		s.joined = r.Kvs[0].CreateRevision
	}
	return s
}

// sight takes over what was read.
func (f *Follower) sight(s sighting) { f.looking, f.seen = false, s }

// vouched reports whether whoever moved the mark of p has counted this agent for
// certain, which joined at this revision as far as it knows, and how long ago it was
// in the registry: should it have left since, its place is kept from then on only.
func (f *Follower) vouched(now time.Time, p *Plan, joined int64) (age time.Duration, ok bool) {
	most := min(vouched, p.attempt()/4)
	if age, _ := f.cfg.Renewed(); !p.Cursor.Unsure && age < most {
		return age, true
	}
	age = now.Sub(f.looked)
	return age, f.registered(joined) && age < most
}

// registered reports whether the registration was read as of the plan or later, and
// was that of this agent.
func (f *Follower) registered(joined int64) bool {
	return f.seen.err == nil && f.seen.joined == joined && f.seen.revision >= f.heard.mod
}

// makeSure has the registration read, unless the agent is counted for certain, and
// returns when to look again; 0 = it is.
func (f *Follower) makeSure(now time.Time, p *Plan, o Order, joined int64) time.Duration {
	if _, ok := f.vouched(now, p, joined); ok {
		return 0
	}
	if f.looking {
		return followAgain
	}
	switch s := f.seen; {
	case s.err != nil:
		f.say(now, o, Standing{State: ReportWaiting, Reason: "this agent may have left the registry: " + s.err.Error()})
	case s.revision >= f.heard.mod && s.joined != joined:
		f.say(now, o, Standing{State: ReportWaiting, Reason: "this agent has left the registry and waits until it is back"})
	}
	if wait := f.lookNext.Sub(now); wait > 0 && f.lookedFor == f.heard.mod {
		return wait
	}
	f.looking, f.lookedFor, f.looked = true, f.heard.mod, now
	f.lookNext = now.Add(followAgain + rand.N(followAgain)) //nolint:gosec // no secret
	f.lookUp(f.keys.registration(f.cfg.Self().ID))
	return followAgain
}
