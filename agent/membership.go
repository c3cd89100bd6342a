package agent

import (
	"sync"

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
