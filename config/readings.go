package config

import (
	"bytes"
	"slices"
)

// readings are what documents said that were read before and fit the type, by
// their keys: a change of one does not have the others read again. nil keeps
// none.
type readings map[string]reading

type reading struct {
	data []byte
	tree *tree
}

// of returns what d says if it is known.
func (r readings) of(d document) (*tree, bool) {
	known, ok := r[d.Key]
	if !ok || d.err != nil || !bytes.Equal(known.data, d.Data) {
		return nil, false
	}
	return known.tree, true
}

// add remembers what docs say, without the positions, which take many times
// the room and are asked for only where something is wrong.
func (r readings) add(docs []document, trees []*tree) {
	if r == nil {
		return
	}
	clear(r)
	for i, d := range docs {
		r[d.Key] = reading{d.Data, &tree{values: trees[i].values, variables: trees[i].variables}}
	}
}

// hasNull reports whether v, which is as parse returns it, has a null in it.
func hasNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, below := range v {
			if hasNull(below) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasNull)
	}
	return false
}
