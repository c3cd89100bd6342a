package etcdkv

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// errReset ends a follow whose store is no longer the one that was listed.
var errReset = errors.New("etcd went back in time or is another cluster: reading everything again")

// state is a listing that events keep up to date. What OnChange has been told
// is values; what was received since waits in pending.
type state struct {
	cluster uint64
	listed  int64 // revision of the listing

	values map[string]Value // of the goroutine that calls OnChange

	mu       sync.Mutex
	revision int64
	pending  map[string]*Value // nil = deleted
}

func newState(cluster uint64, revision int64) *state {
	return &state{
		cluster:  cluster,
		listed:   revision,
		revision: revision,
		values:   map[string]Value{},
		pending:  map[string]*Value{},
	}
}

func valueOf(kv *mvccpb.KeyValue) Value {
	return Value{
		Data:           kv.Value,
		ModRevision:    kv.ModRevision,
		CreateRevision: kv.CreateRevision,
		Lease:          kv.Lease,
	}
}

// receive takes over a response of a watch and reports whether it has events.
func (s *state) receive(r clientv3.WatchResponse) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.GetClusterId() != s.cluster || r.Header.GetRevision() < s.listed {
		return false, errReset
	}
	s.revision = max(s.revision, r.Header.GetRevision())
	for _, e := range r.Events {
		key := string(e.Kv.Key)
		if e.Type == clientv3.EventTypeDelete {
			s.pending[key] = nil
		} else {
			v := valueOf(e.Kv)
			s.pending[key] = &v
		}
	}
	return len(r.Events) > 0, nil
}

// take moves what is pending into values and returns the view that results.
func (s *state) take() View {
	s.mu.Lock()
	pending, revision := s.pending, s.revision
	s.pending = map[string]*Value{}
	s.mu.Unlock()
	view := View{Revision: revision, Values: s.values}
	for key, now := range pending {
		was, existed := s.values[key]
		switch {
		case now == nil && !existed, now != nil && existed && was.equal(*now):
			continue
		case now == nil:
			delete(s.values, key)
		default:
			s.values[key] = *now
		}
		view.Changed = append(view.Changed, key)
	}
	slices.Sort(view.Changed)
	return view
}

// since is the view of a listing, with what differs from what was told last;
// a nil last has told nothing. Neither state is followed any more or yet.
func (s *state) since(last *state) View {
	view := View{Revision: s.revision, Values: s.values}
	told := map[string]Value{}
	if last != nil {
		told = last.values
	}
	for key, now := range s.values {
		if was, existed := told[key]; !existed || !was.equal(now) {
			view.Changed = append(view.Changed, key)
		}
	}
	for key := range told {
		if _, exists := s.values[key]; !exists {
			view.Changed = append(view.Changed, key)
		}
	}
	slices.Sort(view.Changed)
	return view
}

// equal compares bytes, too: a restored store can hold others at the same
// revision.
func (v Value) equal(o Value) bool {
	return v.ModRevision == o.ModRevision && v.CreateRevision == o.CreateRevision &&
		v.Lease == o.Lease && bytes.Equal(v.Data, o.Data)
}

// Endpoints names c's endpoints for a message.
func Endpoints(c *clientv3.Client) string { return strings.Join(c.Endpoints(), ", ") }
