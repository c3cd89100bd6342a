package config

import (
	"errors"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// store tells one etcd's data from another's. An etcd that lost its data and
// was started as it was before has the same cluster id, but counts its
// revisions anew.
type store struct {
	Cluster  uint64 `json:"cluster,string"`
	Revision int64  `json:"revision"` // up to which it was seen
	// Lost: it was found to hold nothing of what it is from, and has not said
	// anything since.
	Lost bool `json:"lost,omitempty"`
}

// view is what etcd holds of an agent's documents.
type view struct {
	documents []document
	store     store
	reset     bool // it is another store than that of the view before
}

// viewOf takes the documents that exist out of v, in the order of keys.
func viewOf(keys []string, v etcdkv.View) view {
	return view{pick(keys, v), store{Cluster: v.Cluster, Revision: v.Revision}, v.Reset}
}

// lacks reports whether the store has lost the documents that good is made of:
// it holds none, and is not the store in which somebody could have deleted
// them.
func (v view) lacks(good layers) bool {
	was := good.store
	if len(v.documents) > 0 || len(good.etcd) == 0 || was == (store{}) {
		return false
	}
	return was.Lost || v.reset || v.store.Cluster != was.Cluster || v.store.Revision < was.Revision
}

// errLost is what the status says while the store lacks the documents.
var errLost = errors.New("etcd holds none of this agent's documents, and is another one than they are from, or lost its data: " +
	"the last good configuration stays; publish the documents again (config put), or, if none are meant, an empty one: {}")
