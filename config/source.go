package config

import (
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// Source says where an agent's documents are.
type Source struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// Root is the prefix of all keys; default "/agents/".
	Root string
	// AgentID and Groups decide which documents apply, groups in this order.
	AgentID string
	Groups  []string
	// File is the path of the last-known-good configuration, in a directory
	// that exists; empty = none is kept.
	File string
	// PreferFile takes File at once, where there is one, and follows etcd
	// from then on: for a successor that must be up fast and run what its
	// predecessor ran.
	PreferFile bool
	// InCharge holds back every write to File until it is closed: a successor
	// in probation may accept documents that its predecessor, which goes on
	// with the same File after a rollback, does not. nil = write at once.
	InCharge <-chan struct{}
	// Sections are the top-level mappings of the documents that are not the
	// program's. A type that has a field of that name is refused by Run.
	Sections []Section
	// Overlay lays documents over those that etcd holds; nil = none.
	Overlay *Overlay
	// OnStatus is called whenever Status may have changed; it must not block.
	// May be nil.
	OnStatus func()
}

// keys returns the keys of the documents that apply, weakest first.
func (s Source) keys() ([]string, error) {
	places, err := s.places()
	keys := make([]string, 0, len(places))
	for _, p := range places {
		keys = append(keys, p.key)
	}
	return keys, err
}

// places returns where the documents are that apply, weakest first.
func (s Source) places() ([]spot, error) {
	if s.Client == nil {
		return nil, errors.New("config: Source.Client is nil")
	}
	scopes := []string{"global"}
	for _, g := range s.Groups {
		scopes = append(scopes, "group/"+g)
	}
	scopes = append(scopes, "agent/"+s.AgentID)
	places := make([]spot, 0, len(scopes))
	for _, scope := range scopes {
		if err := CheckScope(scope); err != nil {
			return nil, err
		}
		places = append(places, spot{documentKey(s.Root, scope), scope})
	}
	return places, nil
}

// pick takes the documents that exist out of a view, in the order of keys.
func pick(keys []string, view etcdkv.View) []document {
	var docs []document
	for _, k := range keys {
		if v, ok := view.Values[k]; ok {
			docs = append(docs, document{Key: k, Revision: v.ModRevision, Data: v.Data})
		}
	}
	return docs
}

func documentKey(root, scope string) string {
	return etcdkv.CleanRoot(root) + "config/" + scope
}

func historyPrefix(root, scope string) string {
	return etcdkv.CleanRoot(root) + "config-history/" + scope + "/"
}

func historyKey(root, scope string, revision int64) string {
	return fmt.Sprintf("%s%d", historyPrefix(root, scope), revision)
}
