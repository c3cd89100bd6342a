package dispatch_test

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

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
