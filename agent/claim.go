package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
)

// ErrDuplicate is wrapped where another live agent has the same id.
var ErrDuplicate = errors.New("agent id is taken")

// Times of a claim.
const (
	claimPoll = 500 * time.Millisecond
	// claimSlack covers that etcd tells the rest of a lease in whole seconds,
	// and takes a moment to answer.
	claimSlack = 3 * time.Second
)

// claim decides whether this process may write the registration, of which
// found is what is there:
//
//	found                                        | this process
//	---------------------------------------------+-----------------------------
//	nothing                                      | takes the id
//	on no lease: nobody keeps it alive           | takes it
//	on this process's lease: its own, that of    | takes it
//	its incumbent, or written by hand            |
//	as this process wrote it, on a lease that is | takes it
//	to be exchanged                              |
//	of another instance: another agent           | is refused
//	of this instance and home: the state         | takes it: whoever wrote it
//	directory's lock is this process's           | is gone, or its incumbent
//	of this instance and another home: a copy of | watches it for a beat: is
//	the directory lives, or the machine, its     | refused if it lives, else
//	boot or the container's disk has changed     | takes the id
//	unreadable, or of a newer version            | watches it likewise
//
// What is taken is taken by comparing the mod revision, so of two that claim an
// id at once one gets it, and the other finds it there. The incumbent whose id
// was taken because it was cut off from etcd finds its registration changed, or
// its lease gone, claims by the same table, and is refused in its turn.
func (r *registry) claim(ctx context.Context, found *mvccpb.KeyValue, lease int64) error {
	if found == nil || found.Lease == 0 || found.Lease == lease || r.wrote(found) {
		return nil
	}
	var other Registration
	err := decode(string(found.Key), found.Value, &other)
	switch {
	case err == nil && other.Instance != r.instance.ID:
		return r.refuse(ctx, found, other, "another agent")
	case err == nil && r.home != "" && other.Home == r.home:
		return nil
	}
	r.contested.Store(true)
	defer r.contested.Store(false)
	alive, watchErr := r.alive(ctx, found, other.HeartbeatEvery)
	switch {
	case watchErr != nil:
		return watchErr
	case !alive:
		return nil
	case err != nil:
		return fatal{fmt.Errorf("%w: agent id %s is registered by somebody who keeps it alive, and whose registration cannot be read: %w", ErrDuplicate, r.id, err)}
	}
	return r.refuse(ctx, found, other, "another agent with a copy of this one's state directory")
}

// wrote reports whether found is what this process has written.
func (r *registry) wrote(found *mvccpb.KeyValue) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[string(found.Key)] == held{string(found.Value), found.ModRevision}
}

// refuse tells who has the id.
func (r *registry) refuse(ctx context.Context, found *mvccpb.KeyValue, other Registration, who string) error {
	rest := "until its lease ends"
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if ttl, err := r.client.TimeToLive(ctx, clientv3.LeaseID(found.Lease)); err == nil && ttl.TTL > 0 {
		rest = fmt.Sprintf("%d s until its lease ends", ttl.TTL)
	}
	return fatal{fmt.Errorf("%w: agent id %s is registered by %s on host %s with pid %d since %s; give this one its own id (and, if its state directory is a copy, delete %s from it), or, if that one is dead, wait %s",
		ErrDuplicate, r.id, who, other.Host, other.PID, other.Started.Format(time.RFC3339), instanceFile, rest)}
}

// alive watches whether whoever wrote found renews its lease, for a bit more
// than one of its beats. An election of etcd's leader prolongs every lease
// once, so it takes two renewals. The error is errFenced when the registration
// is no longer what was found.
func (r *registry) alive(ctx context.Context, found *mvccpb.KeyValue, beat float64) (bool, error) {
	var base remains
	signs := 0
	for began := time.Now(); ; {
		now, err := r.remains(ctx, found)
		if err != nil {
			return false, err
		}
		if least := now.granted.Seconds() / 2; beat <= 0 || beat > least {
			beat = least // no agent renews less often
		}
		window := time.Duration(beat*1.5*float64(time.Second)) + claimSlack
		switch {
		case base.at.IsZero():
			base = now
		case now.renewedSince(base):
			if signs++; signs == 2 {
				return true, nil
			}
			base, began = now, time.Now()
		case time.Since(began) > window:
			return false, nil
		}
		if err := backoff.Sleep(ctx, claimPoll); err != nil {
			return false, err
		}
	}
}

// remains is the rest of a lease as etcd told it, in whole seconds.
type remains struct {
	at            time.Time
	rest, granted time.Duration
}

// renewedSince reports whether the rest is longer than it could be without a
// renewal after base.
func (now remains) renewedSince(base remains) bool {
	return now.rest > base.rest+time.Second-now.at.Sub(base.at)
}

// remains asks for the rest of found's lease.
func (r *registry) remains(ctx context.Context, found *mvccpb.KeyValue) (remains, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	key, err := r.client.Get(ctx, string(found.Key))
	if err != nil {
		return remains{}, r.explain("registration", err)
	}
	if len(key.Kvs) == 0 || key.Kvs[0].ModRevision != found.ModRevision {
		return remains{}, fmt.Errorf("registration of %s: %w", r.id, errFenced)
	}
	asked := time.Now()
	ttl, err := r.client.TimeToLive(ctx, clientv3.LeaseID(found.Lease))
	if err != nil {
		return remains{}, r.explain("lease of the registration", err)
	}
	// The rest is of a moment after asked: taking asked for it makes it look
	// renewed the less.
	return remains{asked, time.Duration(ttl.TTL) * time.Second, time.Duration(ttl.GrantedTTL) * time.Second}, nil
}
