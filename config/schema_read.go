package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/perennial-go/perennial/internal/strictjson"
)

// maxSchemaDepth bounds how deep the JSON of a schema is nested: each level of
// a document takes two.
const maxSchemaDepth = 256

// ErrSchema means that what was found is no schema of a configuration, or a
// damaged one.
var ErrSchema = errors.New("not a schema of a configuration")

// Schema is a JSON Schema that Store.Schema made, read back: it knows which
// fields there are, which of them are secret, and their defaults.
type Schema struct {
	// Data is the JSON as it was published, Digest its SHA-256 in hex.
	Data   []byte
	Digest string
	root   *schemaNode
}

// ParseSchema reads what Store.Schema returned. Keywords that it does not know
// are ignored. Every error wraps ErrSchema; a newer format is one.
func ParseSchema(data []byte) (*Schema, error) {
	if len(data) > MaxSchemaBytes {
		return nil, fmt.Errorf("%w: it has %d bytes: want at most %d", ErrSchema, len(data), MaxSchemaBytes)
	}
	if err := strictjson.Check(data, maxSchemaDepth); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	var root schemaNode
	if err := json.Unmarshal(data, &root); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	if root.Format != schemaFormat {
		return nil, fmt.Errorf("%w: it has schema %d: want %d", ErrSchema, root.Format, schemaFormat)
	}
	return &Schema{Data: data, Digest: SchemaDigest(data), root: &root}, nil
}

// MarshalJSON returns the schema as this version understands it: without the
// keywords that Store.Schema does not write. To validate with it costs no more
// than the document is long, whoever wrote it.
func (s *Schema) MarshalJSON() ([]byte, error) { return json.Marshal(s.root) }

// SchemaDigest is what a schema is published under: its SHA-256 in hex.
func SchemaDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// place is a place in a schema: what it says of one value.
type place struct {
	schema *Schema
	node   *schemaNode
	secret bool
	// shared: it is a definition, which several values refer to, and has no
	// defaults.
	shared bool
}

// at is the place of n, references followed; not ok where n is missing, or
// refers to nothing.
func (s *Schema) at(n *schemaNode, secret bool) (place, bool) {
	shared := false
	for range len(s.root.Defs) + 1 {
		if n == nil {
			break
		}
		secret = secret || n.WriteOnly
		name, refers := strings.CutPrefix(n.Ref, "#/$defs/")
		if n.Ref == "" {
			return place{s, n, secret, shared}, true
		}
		if !refers {
			break
		}
		n, shared = s.root.Defs[name], true
	}
	return place{}, false
}

// open tells whether the schema allows anything here.
func (p place) open() bool {
	n := p.node
	return n.Type == nil && n.Properties == nil && n.Others == nil && n.Items == nil
}

// field is the place of the field, or map entry, called name.
func (p place) field(name string) (place, bool) {
	if n := p.node.Properties[name]; n != nil {
		return p.schema.at(n, p.secret)
	}
	if p.node.Others != nil && p.node.Others.node != nil {
		return p.schema.at(p.node.Others.node, p.secret)
	}
	return p, p.open()
}

// item is the place of a list's elements.
func (p place) item() (place, bool) {
	if p.node.Items != nil {
		return p.schema.at(p.node.Items, p.secret)
	}
	return p, p.open()
}

// places are what several schemas say of one value.
type places []place

func (all places) each(step func(place) (place, bool)) places {
	var next places
	for _, p := range all {
		if below, ok := step(p); ok {
			next = append(next, below)
		}
	}
	return next
}

func (all places) field(name string) places {
	return all.each(func(p place) (place, bool) { return p.field(name) })
}

func (all places) items() places { return all.each(place.item) }

func (all places) secret() bool {
	for _, p := range all {
		if p.secret {
			return true
		}
	}
	return false
}

// roots are the places of the documents as wholes.
func roots(schemas []*Schema) places {
	var all places
	for _, s := range schemas {
		if p, ok := s.at(s.root, false); ok {
			all = append(all, p)
		}
	}
	return all
}
