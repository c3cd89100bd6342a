package etcdkv

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	// errReset ends a follow whose store is no longer the one that was listed.
	errReset = errors.New("etcd went back in time or is another cluster: reading everything again")
	// errFlooded ends a follow whose receiver is slower than new keys come.
	errFlooded = errors.New("more changes of etcd keys wait than may be held: reading everything again")
	// errMalformed ends a follow that cannot be trusted.
	errMalformed = errors.New("etcd sent an event without a key: reading everything again")
	// errGrown ends a follow whose view grew over its bounds.
	errGrown = errors.New("more than a view may hold")
)

// maxSpare is how large a map may have been that is kept for the next use.
const maxSpare = 1000

// state is a listing that events keep up to date. What OnChange has been told
// is values; what was received since waits in pending.
type state struct {
	cluster           uint64
	listed            int64 // revision of the listing
	maxKeys, maxBytes int

	// Of the goroutine that calls OnChange.
	values map[string]Value
	bytes  int // of keys and values

	mu           sync.Mutex
	reached      []int64  // what each receiver has seen everything up to
	receives     []string // its key or prefix
	pending      map[string]pendingValue
	spare        map[string]pendingValue // empty, for the next pending
	pendingBytes int
	received     int       // events since the last take
	oldest       time.Time // when the oldest of pending was received
}

// pendingValue is what a key has become.
type pendingValue struct {
	Value
	deleted bool
}

func newState(cluster uint64, revision int64, maxKeys, maxBytes int) *state {
	return &state{
		cluster:  cluster,
		listed:   revision,
		maxKeys:  maxKeys,
		maxBytes: maxBytes,
		values:   map[string]Value{},
		pending:  map[string]pendingValue{},
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

// load takes over a part of the listing.
func (s *state) load(kvs []*mvccpb.KeyValue) {
	for _, kv := range kvs {
		s.values[string(kv.Key)] = valueOf(kv)
		s.bytes += len(kv.Key) + len(kv.Value)
	}
}

// receiver adds a receiver of events of a key or prefix, which has the listing,
// and returns its number.
func (s *state) receiver(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reached, s.receives = append(s.reached, s.listed), append(s.receives, name)
	return len(s.reached) - 1
}

// receive takes over a response to a receiver and tells how many changes it
// brought.
func (s *state) receive(receiver int, r clientv3.WatchResponse) (news int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.GetClusterId() != s.cluster || r.Header.GetRevision() < s.listed {
		return 0, errReset
	}
	reached := r.Header.GetRevision()
	for _, e := range r.Events {
		if e.GetKv() == nil {
			return 0, errMalformed
		}
		// A server that has much to catch up on sends it in pieces, each
		// with the store's revision and not the piece's in its header.
		reached = e.Kv.ModRevision
		if reached <= s.listed {
			continue // the listing has it
		}
		news++
		s.await(string(e.Kv.Key), pendingValue{Value: valueOf(e.Kv), deleted: e.Type == clientv3.EventTypeDelete})
	}
	s.reached[receiver] = max(s.reached[receiver], reached)
	if len(s.pending) > 2*s.maxKeys || s.pendingBytes > 2*s.maxBytes {
		return 0, errFlooded
	}
	return news, nil
}

// await lets a change wait in place of an earlier one of the same key.
func (s *state) await(key string, now pendingValue) {
	if len(s.pending) == 0 {
		s.oldest = time.Now()
	}
	s.received++
	if was, waits := s.pending[key]; waits {
		s.pendingBytes -= len(key) + len(was.Data)
	}
	s.pendingBytes += len(key) + len(now.Data)
	s.pending[key] = now
}

// waiting tells how many keys' changes wait to be told.
func (s *state) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

// take moves what is pending into values and returns the view that results,
// or errGrown if it would be too large.
func (s *state) take() (View, error) {
	s.mu.Lock()
	view := View{Revision: slices.Min(s.reached), Cluster: s.cluster, Values: s.values, Folded: s.received - len(s.pending)}
	if len(s.pending) > 0 {
		view.Waited = time.Since(s.oldest)
	}
	if len(s.reached) > 1 {
		view.names, view.reached = s.receives, slices.Clone(s.reached)
	}
	pending := s.pending
	s.pending, s.spare, s.pendingBytes, s.received = s.spare, nil, 0, 0
	if s.pending == nil {
		s.pending = map[string]pendingValue{}
	}
	s.mu.Unlock()
	if keys, size := s.sizeWith(pending); keys > s.maxKeys || size > s.maxBytes {
		return View{}, errGrown
	}
	for key, now := range pending {
		was, existed := s.values[key]
		switch {
		case now.deleted && !existed, !now.deleted && existed && was.equal(now.Value):
			continue
		case now.deleted:
			delete(s.values, key)
			s.bytes -= len(key) + len(was.Data)
		default:
			s.values[key] = now.Value
			s.bytes += len(now.Data) - len(was.Data)
			if !existed {
				s.bytes += len(key)
			}
		}
		view.Changed = append(view.Changed, key)
	}
	slices.Sort(view.Changed)
	if len(pending) <= maxSpare {
		clear(pending)
		s.mu.Lock()
		s.spare = pending
		s.mu.Unlock()
	}
	return view, nil
}

// sizeWith is the size that values would have with pending.
func (s *state) sizeWith(pending map[string]pendingValue) (keys, size int) {
	keys, size = len(s.values), s.bytes
	for key, now := range pending {
		if was, existed := s.values[key]; existed {
			keys--
			size -= len(key) + len(was.Data)
		}
		if !now.deleted {
			keys++
			size += len(key) + len(now.Data)
		}
	}
	return keys, size
}

// since is the view of a listing, with what differs from what was told last;
// a nil last has told nothing. Neither state is followed any more or yet.
func (s *state) since(last *state) View {
	view := View{Revision: s.listed, Cluster: s.cluster, Reset: s.resets(last), Values: s.values}
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

// resets reports whether s, a listing, is of another store than last, which is
// nil or no longer followed.
func (s *state) resets(last *state) bool {
	return last != nil && (s.cluster != last.cluster || s.listed < last.latest())
}

// latest is the highest revision that was heard of.
func (s *state) latest() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Max(append([]int64{s.listed}, s.reached...))
}

// equal compares bytes, too: a restored store can hold others at the same
// revision.
func (v Value) equal(o Value) bool {
	return v.ModRevision == o.ModRevision && v.CreateRevision == o.CreateRevision &&
		v.Lease == o.Lease && bytes.Equal(v.Data, o.Data)
}

// Endpoints names c's endpoints for a message.
func Endpoints(c *clientv3.Client) string { return strings.Join(c.Endpoints(), ", ") }
