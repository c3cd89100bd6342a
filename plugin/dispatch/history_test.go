package dispatch_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/dispatch"
	"github.com/perennial-go/perennial/plugin/dispatch/dispatchtest"
)

// judge reads the history and checks that each of the tasks has ended as it
// should.
func (r *rig) judge(ends map[string]func(dispatch.State) bool) *dispatchtest.History {
	r.Helper()
	h := dispatchtest.Read(r.T, r.client, "")
	for i, p := range h.Problems {
		if i == 20 {
			r.Errorf("and %d more", len(h.Problems)-i)
			break
		}
		r.Error(p)
	}
	for id, ok := range ends {
		if state, there := h.Ends[id]; !there || !ok(state) {
			r.Errorf("task %s ended as %q", id, state)
		}
	}
	for id, state := range h.Ends {
		if !state.Finished() {
			r.Errorf("task %s is lost: it ended as %q", id, state)
		}
	}
	return h
}

func succeeded(s dispatch.State) bool { return s == dispatch.Succeeded }

// A checker that finds nothing wrong proves nothing unless it finds what is.
func TestHistoryThatBreaksARuleIsFound(t *testing.T) {
	r := newRig(t)
	const state, done, spec, inbox, claim, result, end = "state/t", "done/t", "spec/t", "inbox/a/t", "claim/a/t", "result/a/t/000000000001", "outcome/a/t"
	type write struct{ key, value string } // "" = delete
	put := func(key, value string) write { return write{key, value} }
	del := func(key string) write { return write{key, ""} }
	is := func(s string) string { return `{"schema":1,"state":"` + s + `"}` }
	create := []write{put(spec, "{}"), put(state, is("queued"))}
	assign := []write{put(state, is("assigned")), put(inbox, "{}")}
	took := []write{put(claim, "{}")}
	did := []write{put(end, `{"ended":"succeeded"}`)}
	fold := []write{put(done, is("succeeded")), del(state), del(inbox), del(claim), del(end)}
	for name, c := range map[string]struct {
		problems int
		txns     [][]write
	}{
		"as it should be":     {0, [][]write{create, assign, took, {put(result, "{}")}, did, fold}},
		"claimed again":       {1, [][]write{create, assign, took, did, took, fold}},
		"assigned again":      {1, [][]write{create, assign, took, did, {del(inbox), del(claim), del(end), put("inbox/b/t", "{}")}}},
		"withdrawn":           {1, [][]write{create, assign, took, did, {del(inbox), del(claim), del(end), put(state, is("queued"))}}},
		"no claim":            {1, [][]write{create, assign, did, fold}},
		"no inbox":            {1, [][]write{create, took}},
		"result without both": {2, [][]write{create, {put(result, "{}")}}},
		"twice there":         {1, [][]write{create, assign, took, did, {put(done, is("succeeded"))}}},
		"from nowhere":        {2, [][]write{{put(state, is("assigned"))}}},
		"finished and back":   {2, [][]write{create, assign, took, did, fold, {put(state, is("queued")), del(done)}}},
		"done without a word": {1, [][]write{create, {put(done, is("succeeded")), del(state)}}},
		"two assignments":     {1, [][]write{create, assign, assign}},
	} {
		t.Run(name, func(t *testing.T) {
			root := strings.ReplaceAll(name, " ", "-")
			for _, writes := range c.txns {
				var ops []clientv3.Op
				for _, w := range writes {
					key := dispatch.Prefix(root) + w.key
					if w.value == "" {
						ops = append(ops, clientv3.OpDelete(key))
					} else {
						ops = append(ops, clientv3.OpPut(key, w.value))
					}
				}
				if _, err := r.client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
					t.Fatal(err)
				}
			}
			if h := dispatchtest.Read(t, r.client, root); len(h.Problems) != c.problems {
				t.Errorf("want %d problems, found %q", c.problems, h.Problems)
			}
		})
	}
}

// finished waits until every task is, for as long as more and more are: on a
// busy disk each write may take a second.
func (r *rig) finished() {
	r.Helper()
	for left, done := int64(1), int64(-1); left > 0; {
		waittest.Nil(r.T, "more have ended", func() error {
			var err error
			var now int64
			left, now, err = r.left()
			if err != nil || left > 0 && now <= done {
				return errors.Join(err, r.describeLeft())
			}
			done = now
			return nil
		})
	}
}

// left counts the tasks that are not finished, and those that are.
func (r *rig) left() (left, done int64, err error) {
	count := func(kind string) (n int64) {
		got, failed := r.client.Get(r.Context(), dispatch.Prefix("")+kind, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if failed != nil {
			err = failed
			return 0
		}
		return got.Count
	}
	return count("state/"), count("done/"), err
}

func (r *rig) describeLeft() error {
	prefix := dispatch.Prefix("") + "state/"
	left, err := r.client.Get(r.Context(), prefix, clientv3.WithPrefix(), clientv3.WithLimit(5))
	if err != nil {
		return err
	}
	why := fmt.Sprintf("%d are left:", left.Count)
	for _, kv := range left.Kvs {
		info, err := r.queue.Get(r.Context(), strings.TrimPrefix(string(kv.Key), prefix))
		why += fmt.Sprintf("\n%s %s at %q since %s, attempt %d, cancelled by %q: %s, %v",
			info.ID, info.State, info.Agent, info.Since, info.Attempt, info.CancelledBy, info.Waiting, err)
	}
	return errors.New(why)
}
