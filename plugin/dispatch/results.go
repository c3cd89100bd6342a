package dispatch

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	defaultResults = 100
	mostResults    = 1000
	// resultPage is how many results are read at once: they may be large.
	resultPage = 16
	// followEvery is how long Follow waits at most before it looks again.
	followEvery = 10 * time.Second
)

// Results returns up to limit (default 100, at most 1000) results of a task
// whose number is greater than after, in their order. Those of a run that is
// repeated may be deleted and come again with the same numbers. Errors:
// ErrNotFound.
func (q *Queue) Results(ctx context.Context, id string, after int64, limit int) ([]Result, error) {
	if !validTaskID(id) {
		return nil, fmt.Errorf("%w: %.80q", ErrNotFound, id)
	}
	t, err := q.read(ctx, id)
	if err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = defaultResults
	}
	return q.results(ctx, id, t.record, after, min(limit, mostResults))
}

// results reads those that lie where r says.
func (q *Queue) results(ctx context.Context, id string, r *record, after int64, limit int) ([]Result, error) {
	var found []Result
	for i, s := range r.Segments {
		last := int64(MaxResults)
		if i+1 < len(r.Segments) {
			last = r.Segments[i+1].From - 1
		}
		first := max(s.From, after+1)
		for first <= last && len(found) < limit {
			most := min(resultPage, limit-len(found))
			kvs, err := q.get(ctx, q.keys.result(s.Agent, id, first),
				clientv3.WithRange(q.keys.result(s.Agent, id, last+1)), clientv3.WithLimit(int64(most)))
			if err != nil {
				return found, err
			}
			for _, kv := range kvs {
				one, err := readResult(q.keys.results(s.Agent, id), s.Agent, kv)
				if err != nil {
					return found, err
				}
				found = append(found, one)
				first = one.Number + 1
			}
			if len(kvs) < most {
				break
			}
		}
	}
	return found, nil
}

func readResult(prefix, agent string, kv *mvccpb.KeyValue) (Result, error) {
	number, err := strconv.ParseInt(strings.TrimPrefix(string(kv.Key), prefix), 10, 64)
	if err != nil || number < 1 {
		return Result{}, fmt.Errorf("%s is no key of a result", kv.Key)
	}
	var v resultValue
	if err := decode(string(kv.Key), kv.Value, &v); err != nil {
		return Result{}, err
	}
	return Result{Number: number, Agent: agent, Attempt: v.Attempt, Payload: v.Payload, Cursor: v.Cursor, Bytes: v.Bytes, At: v.At}, nil
}

// Follow hands the results of a task after a number to deliver, as they come,
// and returns the task once it is finished and all are delivered. A result of a
// run that is repeated may come again, with a number that was delivered before.
// Errors: ErrNotFound; deliver's, unchanged; ctx's.
func (q *Queue) Follow(ctx context.Context, id string, after int64, deliver func(Result) error) (Info, error) {
	if !validTaskID(id) {
		return Info{}, fmt.Errorf("%w: %.80q", ErrNotFound, id)
	}
	attempt := 0
	for {
		t, err := q.read(ctx, id)
		if err != nil {
			return Info{}, err
		}
		if r := t.record; r.Attempt != attempt {
			// What this run repeats comes again.
			if attempt != 0 {
				after = min(after, r.Resume.Number)
			}
			attempt = r.Attempt
		}
		n := 0
		found, err := q.results(ctx, id, t.record, after, mostResults)
		for _, r := range found {
			if err := deliver(r); err != nil {
				return Info{}, err
			}
			after = r.Number
			n++
		}
		switch {
		case err != nil:
			return Info{}, err
		case n > 0: // there may be more
		case t.record.State.Finished():
			return t.info(), nil
		default:
			q.await(ctx, id, t.record, t.read)
			if ctx.Err() != nil {
				return Info{}, ctx.Err()
			}
		}
	}
}

// await returns when the task may have changed, or after a while. It watches
// from the revision on, at which nothing was new, and leaves every trouble to
// the next look.
func (q *Queue) await(ctx context.Context, id string, r *record, revision int64) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), followEvery)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	watch := func(key string, opts ...clientv3.OpOption) {
		wg.Go(func() {
			defer cancel()
			select {
			case <-q.client.Watch(ctx, key, append(opts, clientv3.WithRev(revision+1))...):
			case <-ctx.Done():
			}
		})
	}
	watch(q.keys.state(id))
	if r.State == Assigned {
		watch(q.keys.results(r.Agent, id), clientv3.WithPrefix())
	}
	<-ctx.Done()
}
