package etcdkv

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// errReset ends a follow whose store is no longer the one that was listed.
var errReset = errors.New("etcd went back in time or is another cluster: reading everything again")

// state is a listing that events keep up to date.
type state struct {
	cluster uint64
	listed  int64 // revision of the listing

	mu       sync.Mutex
	revision int64
	values   map[string]Value
	heard    time.Time // when etcd was last heard
}

func newState(cluster uint64, revision int64) *state {
	return &state{
		cluster:  cluster,
		listed:   revision,
		revision: revision,
		values:   map[string]Value{},
		heard:    time.Now(),
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

// apply takes over a response of a watch and reports whether a key changed.
func (s *state) apply(r clientv3.WatchResponse) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.GetClusterId() != s.cluster || r.Header.GetRevision() < s.listed {
		return false, errReset
	}
	s.heard = time.Now()
	s.revision = max(s.revision, r.Header.GetRevision())
	for _, e := range r.Events {
		key := string(e.Kv.Key)
		if e.Type == clientv3.EventTypeDelete {
			delete(s.values, key)
		} else {
			s.values[key] = valueOf(e.Kv)
		}
	}
	return len(r.Events) > 0, nil
}

func (s *state) view() View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return View{Revision: s.revision, Values: maps.Clone(s.values)}
}

func (s *state) silence() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.heard)
}

// equal compares content, bytes included: a restored store can hold other
// bytes at the same revision. Neither state is followed any more or yet.
func (s *state) equal(other *state) bool {
	return maps.EqualFunc(s.values, other.values, func(a, b Value) bool {
		return a.ModRevision == b.ModRevision && a.CreateRevision == b.CreateRevision &&
			a.Lease == b.Lease && bytes.Equal(a.Data, b.Data)
	})
}

// Endpoints names c's endpoints for a message.
func Endpoints(c *clientv3.Client) string { return strings.Join(c.Endpoints(), ", ") }
