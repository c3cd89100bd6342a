package etcdkv

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// FuzzWatchResponse: whatever a server sends, the view and what is said to
// have changed in it fit together, and its size is known.
func FuzzWatchResponse(f *testing.F) {
	kv := func(key string, revision int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), Value: []byte("v"), ModRevision: revision, CreateRevision: 3}
	}
	for _, r := range []*pb.WatchResponse{
		{Header: &pb.ResponseHeader{ClusterId: 7, Revision: 9}},
		{Header: &pb.ResponseHeader{ClusterId: 8, Revision: 9}},
		{Header: &pb.ResponseHeader{ClusterId: 7, Revision: 1}},
		{},
		{Header: &pb.ResponseHeader{ClusterId: 7, Revision: 9}, Events: []*mvccpb.Event{
			{Kv: kv("a", 6)}, {Kv: kv("new", 7)}, {Type: mvccpb.Event_DELETE, Kv: kv("b", 8)}, {Kv: kv("new", 9)},
		}},
		{Header: &pb.ResponseHeader{ClusterId: 7, Revision: 9}, Events: []*mvccpb.Event{{}}},
		{Header: &pb.ResponseHeader{ClusterId: 7, Revision: 9}, Events: []*mvccpb.Event{nil}},
	} {
		data, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint8(1))
		f.Add(data, uint8(2)) // the same again
	}
	f.Fuzz(func(t *testing.T, data []byte, times uint8) {
		var r pb.WatchResponse
		if proto.Unmarshal(data, &r) != nil {
			return
		}
		s := newState(7, 5, 100, 10_000)
		s.load([]*mvccpb.KeyValue{kv("a", 4), kv("b", 5)})
		receiver := s.receiver("")
		for range times % 4 {
			before := maps.Clone(s.values)
			if _, err := s.receive(receiver, clientv3.WatchResponse{Header: r.Header, Events: r.Events}); err != nil {
				return
			}
			view, err := s.take()
			if err != nil {
				if !maps.EqualFunc(before, s.values, Value.equal) {
					t.Fatalf("a view that is not told changed what was told")
				}
				return
			}
			if view.Revision < 5 {
				t.Fatalf("revision %d is before the listing", view.Revision)
			}
			if want := differing(before, view.Values); !slices.Equal(want, view.Changed) {
				t.Fatalf("want %q changed, found %q", want, view.Changed)
			}
			size := 0
			for key, v := range s.values {
				size += len(key) + len(v.Data)
			}
			if size != s.bytes || size > s.maxBytes || len(s.values) > s.maxKeys {
				t.Fatalf("%d keys of %d bytes, counted %d", len(s.values), size, s.bytes)
			}
		}
	})
}

func differing(a, b map[string]Value) []string {
	var keys []string
	for key := range a {
		if v, exists := b[key]; !exists || !v.equal(a[key]) {
			keys = append(keys, key)
		}
	}
	for key := range b {
		if _, existed := a[key]; !existed {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// TestViewIsNoNewerThanItsSlowestReceiver: a view would otherwise claim to
// hold what one of its prefixes has yet to hear.
func TestViewIsNoNewerThanItsSlowestReceiver(t *testing.T) {
	s := newState(7, 5, 100, 10_000)
	first, second := s.receiver("a"), s.receiver("b")
	send := func(receiver int, store, revision int64) View {
		t.Helper()
		r := clientv3.WatchResponse{Header: &pb.ResponseHeader{ClusterId: 7, Revision: store}}
		if revision > 0 {
			r.Events = []*clientv3.Event{{Kv: &mvccpb.KeyValue{Key: fmt.Append(nil, receiver), ModRevision: revision}}}
		}
		if _, err := s.receive(receiver, r); err != nil {
			t.Fatal(err)
		}
		view, err := s.take()
		if err != nil {
			t.Fatal(err)
		}
		return view
	}
	for _, step := range []struct {
		receiver              int
		store, revision, want int64
	}{
		{first, 9, 9, 5},   // the second may have missed up to 9
		{second, 20, 7, 7}, // a piece of what there is up to 20
		{second, 20, 0, 9}, // a sign of life
		{first, 30, 0, 20},
	} {
		if v := send(step.receiver, step.store, step.revision); v.Revision != step.want {
			t.Errorf("%+v: found %d", step, v.Revision)
		}
	}
	v := send(second, 25, 0)
	if a, b := v.Reached("a"), v.Reached("b"); a != 30 || b != 25 {
		t.Errorf("by itself the first has reached %d, the second %d", a, b)
	}
}

// TestResponseOfAnotherStoreIsRefused: its changes are none of this view.
func TestResponseOfAnotherStoreIsRefused(t *testing.T) {
	for name, header := range map[string]*pb.ResponseHeader{
		"another cluster": {ClusterId: 8, Revision: 9},
		"an older store":  {ClusterId: 7, Revision: 4},
		"none":            nil,
	} {
		s := newState(7, 5, 100, 10_000)
		event := &clientv3.Event{Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: 9}}
		_, err := s.receive(s.receiver(""), clientv3.WatchResponse{Header: header, Events: []*clientv3.Event{event}})
		if !errors.Is(err, errReset) || s.waiting() != 0 {
			t.Errorf("%s: taken over: %v, %d changes wait", name, err, s.waiting())
		}
	}
}

// TestKeyIsFollowedOnce: of two watches of one key, one may lag and take the
// view back.
func TestKeyIsFollowedOnce(t *testing.T) {
	keys, prefixes := disjoint([]string{"/q/0", "/k", "/k", "/p"}, []string{"/q/1", "/p/", "/q/", "/p/"})
	if !slices.Equal(keys, []string{"/k", "/p"}) || !slices.Equal(prefixes, []string{"/p/", "/q/"}) {
		t.Errorf("found %q and %q", keys, prefixes)
	}
}

// TestListingsOwnChangeIsNoNews: a watch begins at the listing's revision, and
// would wake its receiver, and count, for what the listing has told.
func TestListingsOwnChangeIsNoNews(t *testing.T) {
	s := newState(7, 5, 100, 10_000)
	var events []*clientv3.Event
	for revision := int64(5); revision <= 6; revision++ {
		events = append(events, &clientv3.Event{Kv: &mvccpb.KeyValue{Key: fmt.Append(nil, revision), ModRevision: revision}})
	}
	news, err := s.receive(s.receiver(""), clientv3.WatchResponse{Header: &pb.ResponseHeader{ClusterId: 7, Revision: 6}, Events: events})
	if err != nil || news != 1 || s.waiting() != 1 {
		t.Errorf("want one change, found %d, %d wait, %v", news, s.waiting(), err)
	}
}
