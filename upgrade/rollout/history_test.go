package rollout

import (
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// TestHistoryOfOnePlanDoesNotGrowWithoutBound: a plan that stands for years lets in
// whoever comes, each with a record, until etcd is full. What is kept is whole still,
// and that of it nothing else is missing shows.
func TestHistoryOfOnePlanDoesNotGrowWithoutBound(t *testing.T) {
	k := keys{"/agents/", DefaultFleet}
	const writes = keepHead + keepTail + 25
	kept := map[string]*mvccpb.KeyValue{}
	p := planOf("1.1.0").WithDefaults()
	p.ID, p.State = "r1", Completed
	var order []string
	for i := range int64(writes) {
		w, err := k.seal(draft{before: p, plan: p, record: Record{At: time.Unix(i, 0), Event: EventAdmitted}})
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range w.then {
			switch key := string(op.KeyBytes()); {
			case op.IsDelete():
				delete(kept, key)
			case strings.HasPrefix(key, k.history()):
				kept[key] = &mvccpb.KeyValue{Key: []byte(key), Value: op.ValueBytes(), CreateRevision: i + 1, ModRevision: i + 1}
				order = append(order, key)
			}
		}
		if last := w.then[len(w.then)-1]; !last.IsPut() || string(last.KeyBytes()) != k.record("r1", w.plan.Seq) {
			t.Fatal("the record is not the last: one that is replaced would lose it")
		}
		p = w.plan
	}
	if len(kept) != keepHead+keepTail {
		t.Errorf("%d records of %d are kept", len(kept), writes)
	}
	check := func(without int64) Past {
		l := links{keys: k, past: Past{Rollout: "r1"}}
		for i, key := range order {
			if kv := kept[key]; kv != nil && int64(i)+1 != without {
				l.add(kv)
			}
		}
		l.whole()
		l.reaches(p.Seq, p.History)
		return l.past
	}
	if past := check(0); past.Broken != "" || past.Dropped != 25 {
		t.Errorf("%q, %d dropped", past.Broken, past.Dropped)
	}
	for _, seq := range []int64{keepHead, keepHead + 26, writes} {
		if past := check(seq); past.Broken == "" {
			t.Errorf("that record %d is missing does not show", seq)
		}
	}
}
