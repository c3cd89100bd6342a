package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// pageSize is how many tasks are read at once.
	pageSize = 250
	// defaultLimit bounds what List returns unless it is told otherwise.
	defaultLimit = 1000
)

// Get returns a task with its payload. Errors: ErrNotFound.
func (q *Queue) Get(ctx context.Context, id string) (Info, error) {
	if !validTaskID(id) {
		return Info{}, fmt.Errorf("%w: %.80q", ErrNotFound, id)
	}
	t, err := q.read(ctx, id)
	if err != nil {
		return Info{}, err
	}
	info := t.info()
	if t.spec.PayloadBytes > 0 {
		if info.Payload, err = readPayload(ctx, q.client, q.keys, t.spec.PayloadOf); err != nil {
			return Info{}, err
		}
	}
	if t.record.State == Assigned {
		r, err := q.get(ctx, q.keys.claim(t.record.Agent, id))
		if err != nil {
			return Info{}, err
		}
		if len(r) > 0 {
			info.State = Running
		}
	}
	if t.record.State == Queued {
		err = q.explain(ctx, []*Info{&info})
	}
	return info, err
}

// stored is a task as it is in etcd.
type stored struct {
	spec     *spec
	record   *record
	revision int64 // of the record
	read     int64 // of the store, when it was read
}

// read returns a task. Errors: ErrNotFound.
func (q *Queue) read(ctx context.Context, id string) (stored, error) {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := q.client.Txn(limited).Then(
		clientv3.OpGet(q.keys.spec(id)), clientv3.OpGet(q.keys.state(id)), clientv3.OpGet(q.keys.done(id))).Commit()
	if err != nil {
		return stored{}, fmt.Errorf("task %s: %w", id, err)
	}
	var kvs []*mvccpb.KeyValue
	for _, part := range r.Responses {
		kvs = append(kvs, part.GetResponseRange().GetKvs()...)
	}
	if len(kvs) < 2 {
		return stored{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	t, err := newStored(kvs[0], kvs[1])
	t.read = r.Header.Revision
	return t, err
}

func newStored(s, r *mvccpb.KeyValue) (stored, error) {
	t := stored{spec: &spec{}, record: &record{}, revision: r.ModRevision}
	if err := decode(string(s.Key), s.Value, t.spec); err != nil {
		return stored{}, err
	}
	return t, decode(string(r.Key), r.Value, t.record)
}

func (q *Queue) get(ctx context.Context, key string, opts ...clientv3.OpOption) ([]*mvccpb.KeyValue, error) {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := q.client.Get(limited, key, opts...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return r.Kvs, nil
}

// pages calls each with the keys of a prefix, from a key on, until that returns
// false.
func (q *Queue) pages(ctx context.Context, prefix, from string, each func([]*mvccpb.KeyValue) (bool, error), opts ...clientv3.OpOption) error {
	opts = append(opts, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(pageSize))
	for {
		kvs, err := q.get(ctx, from, opts...)
		if err != nil || len(kvs) == 0 {
			return err
		}
		if more, err := each(kvs); err != nil || !more || len(kvs) < pageSize {
			return err
		}
		from = string(kvs[len(kvs)-1].Key) + "\x00"
	}
}

func readPayload(ctx context.Context, client *clientv3.Client, k keys, id string) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := client.Get(limited, k.payload(id))
	if err != nil {
		return nil, fmt.Errorf("payload of task %s: %w", id, err)
	}
	if len(r.Kvs) == 0 {
		return nil, fmt.Errorf("%w: the payload of task %s has been collected", ErrNotFound, id)
	}
	var p payloadValue
	if err := decode(string(r.Kvs[0].Key), r.Kvs[0].Value, &p); err != nil {
		return nil, fmt.Errorf("%w: %w", errPayload, err)
	}
	return p.Payload, nil
}

// errPayload: a payload is there and cannot be read.
var errPayload = errors.New("the payload is damaged")

func (t *stored) info() Info {
	r := t.record
	info := Info{
		Task: t.spec.Task, State: r.State, Since: r.Since, Agent: r.Agent, Attempt: r.Attempt, Failures: r.Failures,
		Losses: r.Losses, Attempts: r.Attempts, Error: r.Error, Submitted: t.spec.Submitted, Next: r.Next,
		Finished: r.Finished, Expires: r.Expires,
		Parent: t.spec.Parent, Pinned: t.spec.Pinned, Runs: r.Runs,
	}
	kept := r.Resume
	if r.State.Finished() {
		kept = r.Last
	}
	info.Results, info.ResultBytes, info.Cut = kept.Number, kept.Bytes, kept.Cut
	if r.Cancel != nil {
		info.CancelledBy = r.Cancel.By
	}
	if r.Runs == nil && r.Total > 0 {
		info.Runs = &Runs{Total: r.Total}
	}
	return info
}

// List returns tasks in the order of their ids, without payloads. It reads page
// by page, so that what changes meanwhile may show in one page and not in
// another.
func (q *Queue) List(ctx context.Context, f Filter) ([]Info, error) {
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	prefix, from := q.keys.specs(), q.keys.specs()
	if f.Parent != "" {
		if !validID(f.Parent) {
			return nil, fmt.Errorf("%w: %.80q", ErrNotFound, f.Parent)
		}
		prefix += f.Parent + "."
		from = prefix
	}
	if after := q.keys.spec(f.After) + "\x00"; f.After != "" && after > from {
		from = after
	}
	running, err := q.running(ctx, f)
	if err != nil {
		return nil, err
	}
	var found []Info
	err = q.pages(ctx, prefix, from, func(kvs []*mvccpb.KeyValue) (bool, error) {
		page, err := q.page(ctx, kvs)
		for _, info := range page {
			if running[info.Agent+"/"+info.ID] && info.State == Assigned {
				info.State = Running
			}
			if f.takes(&info) && (f.Limit < 0 || len(found) < f.Limit) {
				found = append(found, info)
			}
		}
		return f.Limit < 0 || len(found) < f.Limit, err
	})
	if err != nil {
		return nil, err
	}
	var queued []*Info
	for i := range found {
		if found[i].State == Queued {
			queued = append(queued, &found[i])
		}
	}
	return found, q.explain(ctx, queued)
}

// running returns what is claimed, as agent/id.
func (q *Queue) running(ctx context.Context, f Filter) (map[string]bool, error) {
	claimed := map[string]bool{}
	if len(f.States) > 0 && !slices.Contains(f.States, Running) && !slices.Contains(f.States, Assigned) {
		return claimed, nil
	}
	prefix := q.keys.claimed()
	err := q.pages(ctx, prefix, prefix, func(kvs []*mvccpb.KeyValue) (bool, error) {
		for _, kv := range kvs {
			claimed[strings.TrimPrefix(string(kv.Key), prefix)] = true
		}
		return true, nil
	}, clientv3.WithKeysOnly())
	return claimed, err
}

// page reads the records of tasks. What cannot be read shows with why.
func (q *Queue) page(ctx context.Context, specs []*mvccpb.KeyValue) ([]Info, error) {
	var ids []string
	byID := map[string]*mvccpb.KeyValue{}
	for _, kv := range specs {
		if id, ok := below(q.keys.specs(), string(kv.Key)); ok {
			ids = append(ids, id)
			byID[id] = kv
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	within := func(prefix string) clientv3.Op {
		return clientv3.OpGet(prefix+ids[0], clientv3.WithRange(prefix+ids[len(ids)-1]+"\x00"))
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := q.client.Txn(limited).Then(within(q.keys.states()), within(q.keys.dones())).Commit()
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	records := map[string]*mvccpb.KeyValue{}
	for i, prefix := range []string{q.keys.states(), q.keys.dones()} {
		for _, kv := range r.Responses[i].GetResponseRange().GetKvs() {
			records[strings.TrimPrefix(string(kv.Key), prefix)] = kv
		}
	}
	var page []Info
	for _, id := range ids {
		if records[id] == nil {
			continue // collected meanwhile
		}
		t, err := newStored(byID[id], records[id])
		if err != nil {
			page = append(page, Info{Task: Task{ID: id}, Error: err.Error()})
			continue
		}
		t.spec.Payload = nil
		page = append(page, t.info())
	}
	return page, nil
}

func (f *Filter) takes(info *Info) bool {
	return (len(f.States) == 0 || slices.Contains(f.States, info.State)) &&
		(f.Agent == "" || f.Agent == info.Agent) &&
		(f.Plugin == "" || f.Plugin == info.Plugin) &&
		(f.Capability == "" || f.Capability == info.Capability) &&
		(f.Parent == "" || f.Parent == info.Parent) &&
		(f.SubmittedBy == "" || f.SubmittedBy == info.SubmittedBy)
}

// explain says of queued tasks why they are not assigned.
func (q *Queue) explain(ctx context.Context, queued []*Info) error {
	if len(queued) == 0 {
		return nil
	}
	workers, err := q.Workers(ctx)
	if err != nil {
		return err
	}
	leader, err := q.Leader(ctx)
	if err != nil {
		return err
	}
	reasons := map[string]string{} // by demand
	for _, info := range queued {
		switch {
		case info.NotBefore.After(time.Now()):
			info.Waiting = "it is not to begin before " + info.NotBefore.Format(time.RFC3339)
			continue
		case info.Next.After(time.Now()):
			info.Waiting = "its last run failed: it is tried again at " + info.Next.Format(time.RFC3339)
			continue
		case leader == "":
			info.Waiting = "no dispatcher runs"
			continue
		}
		s := &spec{Task: info.Task, Pinned: info.Pinned}
		key := demandKey(s)
		if _, known := reasons[key]; !known {
			wanted, err := newDemand(s)
			switch {
			case err != nil:
				reasons[key] = err.Error()
			case slices.ContainsFunc(workers, func(w WorkerInfo) bool { return wanted.takes(&w) }):
				reasons[key] = "it waits for its turn: an agent that can take it does so once it has room"
			default:
				reasons[key] = wanted.why(workers)
			}
		}
		info.Waiting = reasons[key]
	}
	return nil
}

// Workers returns the agents that take tasks now, sorted. One whose value cannot
// be read is left out.
func (q *Queue) Workers(ctx context.Context) ([]WorkerInfo, error) {
	prefix := q.keys.workers()
	var workers []WorkerInfo
	err := q.pages(ctx, prefix, prefix, func(kvs []*mvccpb.KeyValue) (bool, error) {
		for _, kv := range kvs {
			if w, err := readWorker(prefix, string(kv.Key), kv.Value); err == nil {
				workers = append(workers, w)
			}
		}
		return true, nil
	})
	return workers, err
}

func readWorker(prefix, key string, data []byte) (WorkerInfo, error) {
	var w workerValue
	if err := decode(key, data, &w); err != nil {
		return WorkerInfo{}, err
	}
	if prefix+w.Agent != key {
		return WorkerInfo{}, fmt.Errorf("%s is about the agent %s", key, w.Agent)
	}
	return w.WorkerInfo, nil
}

// Leader returns the id of the dispatcher that assigns tasks; "" = none does.
func (q *Queue) Leader(ctx context.Context) (string, error) {
	kvs, err := q.get(ctx, q.keys.leader())
	if err != nil || len(kvs) == 0 {
		return "", err
	}
	var l leaderValue
	if err := decode(q.keys.leader(), kvs[0].Value, &l); err != nil && !errors.Is(err, ErrSchema) {
		return "", err
	}
	return l.ID, nil
}
