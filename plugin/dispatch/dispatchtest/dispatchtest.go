// Package dispatchtest judges a queue of tasks by its history: by every change
// of every key, as etcd kept it.
package dispatchtest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

// History is what a history shows.
type History struct {
	// Problems are the rules that were broken.
	Problems []string
	// Ends is the last state of each task, by id; Runs how often each was
	// claimed.
	Ends map[string]dispatch.State
	Runs map[string]int
	// Acknowledged counts outcomes, Withdrawn assignments without one.
	Acknowledged, Withdrawn int
}

// Read reads the history of the tasks below root from its beginning, which
// must not have been compacted.
func Read(tb testing.TB, client *clientv3.Client, root string) *History {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	prefix := dispatch.Prefix(root)
	// What comes before it has been told when it is.
	marker := prefix + "marker"
	end, err := client.Put(ctx, marker, "")
	if err != nil {
		tb.Fatal(err)
	}
	r := &reader{History: History{Ends: map[string]dispatch.State{}, Runs: map[string]int{}}, keys: map[string]entry{}, succeeded: map[string]int64{}}
	for w := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := w.Err(); err != nil {
			tb.Fatal(err)
		}
		// What one transaction did is judged as a whole.
		for i := 0; i < len(w.Events); {
			j := i
			for j < len(w.Events) && w.Events[j].Kv.ModRevision == w.Events[i].Kv.ModRevision {
				j++
			}
			r.transaction(prefix, w.Events[i:j])
			i = j
		}
		if w.Header.Revision >= end.Header.Revision && len(w.Events) > 0 && w.Events[len(w.Events)-1].Kv.ModRevision >= end.Header.Revision {
			return &r.History
		}
	}
	tb.Fatalf("the history ended before its end: %v", ctx.Err())
	return nil
}

// entry is a key that exists.
type entry struct {
	value    []byte
	revision int64
}

type reader struct {
	History
	keys      map[string]entry // kind/rest
	succeeded map[string]int64 // tasks that an agent has acknowledged as done, since
}

func (r *reader) problem(revision int64, format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf("revision %d: ", revision)+fmt.Sprintf(format, args...))
}

// may is the transition table, written down once more.
func may(from, to dispatch.State) bool {
	finished := to.Finished()
	switch from {
	case "":
		return to == dispatch.Queued || to == dispatch.Spread
	case dispatch.Queued:
		return to == dispatch.Assigned || finished && to != dispatch.Succeeded
	case dispatch.Assigned:
		return to == dispatch.Assigned || to == dispatch.Queued || finished
	case dispatch.Spread:
		return to == dispatch.Spread || finished
	case dispatch.Dead, dispatch.Cancelled:
		return to == dispatch.Queued
	default:
		return false
	}
}

func (r *reader) transaction(prefix string, events []*clientv3.Event) {
	before := map[string]bool{}
	for _, e := range events {
		key := strings.TrimPrefix(string(e.Kv.Key), prefix)
		_, before[key] = r.keys[key]
	}
	for _, e := range events {
		key := strings.TrimPrefix(string(e.Kv.Key), prefix)
		kind, rest, _ := strings.Cut(key, "/")
		if e.Type == clientv3.EventTypeDelete {
			r.deleted(kind, rest, before)
			delete(r.keys, key)
			continue
		}
		r.put(kind, rest, e.Kv.Value, e.Kv.ModRevision)
		r.keys[key] = entry{e.Kv.Value, e.Kv.ModRevision}
	}
	for _, e := range events {
		key := strings.TrimPrefix(string(e.Kv.Key), prefix)
		if kind, id, _ := strings.Cut(key, "/"); kind == "state" || kind == "done" {
			_, open := r.keys["state/"+id]
			_, done := r.keys["done/"+id]
			_, spec := r.keys["spec/"+id]
			if open && done || (open || done) != spec {
				r.problem(e.Kv.ModRevision, "task %s: open %t, done %t, spec %t", id, open, done, spec)
			}
		}
	}
}

func (r *reader) deleted(kind, rest string, before map[string]bool) {
	if kind != "inbox" || strings.HasSuffix(rest, "/cancel") {
		return
	}
	if !before["outcome/"+rest] {
		r.Withdrawn++
	}
}

func (r *reader) put(kind, rest string, value []byte, revision int64) {
	agent, id, _ := strings.Cut(rest, "/")
	id, _, _ = strings.Cut(id, "/")
	own := agent + "/" + id
	switch kind {
	case "state", "done":
		r.state(rest, value, revision)
	case "inbox":
		if strings.HasSuffix(rest, "/cancel") {
			return
		}
		r.unfinished(id, "was assigned", revision)
		if _, again := r.keys["inbox/"+own]; again {
			r.problem(revision, "%s was assigned twice", own)
		}
	case "claim":
		r.unfinished(id, "was claimed", revision)
		r.needs(own, "was claimed", revision, "inbox")
		r.Runs[id]++
	case "result":
		r.needs(own, "yielded", revision, "inbox", "claim")
		r.unfinished(id, "yielded", revision)
	case "outcome":
		r.needs(own, "was acknowledged", revision, "inbox", "claim")
		r.unfinished(id, "was acknowledged", revision)
		r.Acknowledged++
		var o struct {
			Ended string `json:"ended"`
		}
		if err := json.Unmarshal(value, &o); err != nil {
			r.problem(revision, "outcome of %s: %v", own, err)
		}
		if o.Ended == "succeeded" {
			r.succeeded[id] = revision
		}
	}
}

// needs checks that what fences a write is there.
func (r *reader) needs(own, did string, revision int64, kinds ...string) {
	for _, kind := range kinds {
		if _, there := r.keys[kind+"/"+own]; !there {
			r.problem(revision, "%s %s without its %s", own, did, kind)
		}
	}
}

func (r *reader) unfinished(id, did string, revision int64) {
	if at := r.succeeded[id]; at != 0 {
		r.problem(revision, "task %s %s after it had been acknowledged as done at revision %d", id, did, at)
	}
}

func (r *reader) state(id string, value []byte, revision int64) {
	var now struct {
		State dispatch.State `json:"state"`
	}
	if err := json.Unmarshal(value, &now); err != nil {
		r.problem(revision, "task %s: %v", id, err)
		return
	}
	if was := r.Ends[id]; !may(was, now.State) {
		r.problem(revision, "task %s went from %q to %q", id, was, now.State)
	}
	if r.succeeded[id] != 0 && now.State != dispatch.Succeeded && now.State != dispatch.Assigned {
		r.problem(revision, "task %s was acknowledged as done and is %s", id, now.State)
	}
	r.Ends[id] = now.State
}
