package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// environment is the name of the layer that environment variables are.
const environment = "environment"

// document is one layer as it was read.
type document struct {
	// Key is the key in etcd, the path of a local file, or environment.
	Key      string `json:"key"`
	Revision int64  `json:"revision"`
	Data     []byte `json:"data"`

	local bool  // not from etcd
	laid  bool  // an Overlay's, in the place of etcd's
	tree  *tree // instead of Data, of the environment
	err   error // why Data could not be read
}

// parsed returns what d says.
func (d document) parsed(maxBytes int) (*tree, error) {
	switch {
	case d.err != nil:
		return nil, d.err
	case d.tree != nil:
		return d.tree, nil
	default:
		return parse(d.Data, maxBytes)
	}
}

// layers are the documents that apply, the weakest first: the host's files,
// its environment, and what etcd holds.
type layers struct {
	files []document
	env   []document // at most one
	etcd  []document
	store store // that etcd's documents are from
}

func (l layers) documents() []document { return slices.Concat(l.files, l.env, l.etcd) }

// same reports whether docs and others say the same in the same places.
func same(docs, others []document) bool {
	return slices.EqualFunc(docs, others, func(a, b document) bool {
		return a.Key == b.Key && a.Revision == b.Revision && bytes.Equal(a.Data, b.Data) && fmt.Sprint(a.err) == fmt.Sprint(b.err)
	})
}

// digestOf identifies docs and their order. The environment does not count:
// it cannot change while the program runs, and a digest of few unknown bytes
// would give away a secret among them.
func digestOf(docs []document) string {
	h := sha256.New()
	for _, d := range docs {
		if d.tree == nil {
			h.Write(fmt.Appendf(nil, "%d %s %d ", len(d.Key), d.Key, len(d.Data)))
			h.Write(d.Data)
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func revisionOf(docs []document) int64 {
	var revision int64
	for _, d := range docs {
		revision = max(revision, d.Revision)
	}
	return revision
}

// newest returns the key of the document that changed last, so far as their
// revisions tell; empty = none.
func newest(docs []document) string {
	key, revision := "", revisionOf(docs)
	for _, d := range docs {
		if d.Revision == revision {
			key = d.Key
		}
	}
	return key
}
