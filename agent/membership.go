package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// membership is since when this agent is in the registry without a break: the
// create revision of its registration's key, as its own writes and its own view
// tell, whichever is newer.
type membership struct {
	mu       sync.Mutex
	created  int64 // 0 = it is not there
	revision int64 // of etcd, at which that was so
}

// wrote is told of a registration that this process has written at revision,
// over a key that was created then, or by this write.
func (m *membership) wrote(created, revision int64) {
	if created == 0 {
		created = revision
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if revision >= m.revision {
		m.created, m.revision = created, revision
	}
}

// shows is told of what etcd shows.
func (m *membership) shows(key string, v etcdkv.View) {
	now, there := v.Values[key]
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case there && (now.ModRevision >= m.revision || v.Reset):
		m.created, m.revision = now.CreateRevision, now.ModRevision
	case !there && (v.Revision >= m.revision || v.Reset):
		m.created, m.revision = 0, v.Revision
	}
}

// since is the create revision; 0 = the agent is not in the registry.
func (m *membership) since() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.created
}

// leave deletes found where rollouts would take reg for another agent than it is
// of: whoever counted that one has not counted this one, which joins anew, and is
// let in when its turn comes. It returns what is there then.
func (r *registry) leave(ctx context.Context, found *mvccpb.KeyValue, reg Registration) (*mvccpb.KeyValue, error) {
	if found == nil {
		return nil, nil //nolint:nilnil // nothing is there
	}
	var was Registration
	if decode(string(found.Key), found.Value, &was) == nil && was.takesPartAs(&reg) {
		return found, nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	res, err := r.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(string(found.Key)), "=", found.ModRevision)).
		Then(clientv3.OpDelete(string(found.Key))).Commit()
	switch {
	case err != nil:
		return nil, r.explain("registration", err)
	case !res.Succeeded:
		return nil, fmt.Errorf("registration of %s: %w", r.id, errFenced)
	}
	return nil, nil //nolint:nilnil // as above
}

// takesPartAs reports whether a plan's selectors see no difference between r and o.
func (r *Registration) takesPartAs(o *Registration) bool {
	return r.Fleet == o.Fleet && r.Host == o.Host && r.Platform == o.Platform &&
		maps.Equal(r.Labels, o.Labels) && slices.Equal(r.Groups, o.Groups)
}
