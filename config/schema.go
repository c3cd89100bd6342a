package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
)

const (
	// schemaFormat is the version of the format that Schema writes.
	schemaFormat = 1
	// MaxSchemaBytes bounds a schema, written or read.
	MaxSchemaBytes = 512 << 10
	// maxSchemaNodes bounds how many types, counted at each place where they
	// occur, a schema describes.
	maxSchemaNodes = 20_000
	schemaDialect  = "https://json-schema.org/draft/2020-12/schema"
	// durationPattern is what time.ParseDuration takes, but for overflows.
	durationPattern = `^[-+]?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`
)

// schemaNode is one JSON Schema, of the keywords that describe a Go type.
type schemaNode struct {
	Dialect     string                 `json:"$schema,omitempty"`
	Format      int                    `json:"schema,omitempty"`
	Ref         string                 `json:"$ref,omitempty"`
	Description string                 `json:"description,omitempty"`
	Type        []string               `json:"type,omitempty"`
	Default     any                    `json:"default,omitempty"`
	WriteOnly   bool                   `json:"writeOnly,omitempty"`
	Pattern     string                 `json:"pattern,omitempty"`
	Minimum     any                    `json:"minimum,omitempty"`
	Maximum     any                    `json:"maximum,omitempty"`
	MaxItems    *int                   `json:"maxItems,omitempty"`
	Items       *schemaNode            `json:"items,omitempty"`
	Properties  map[string]*schemaNode `json:"properties,omitempty"`
	Others      *others                `json:"additionalProperties,omitempty"`
	Defs        map[string]*schemaNode `json:"$defs,omitempty"`
}

// others is what additionalProperties says: nil allows none.
type others struct{ node *schemaNode }

// MarshalJSON implements json.Marshaler.
func (o *others) MarshalJSON() ([]byte, error) {
	if o.node == nil {
		return []byte("false"), nil
	}
	return json.Marshal(o.node)
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *others) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case "false":
		o.node = nil
		return nil
	case "true":
		o.node = &schemaNode{}
		return nil
	}
	return json.Unmarshal(data, &o.node)
}

// Schema returns the JSON Schema (draft 2020-12) of the documents that this
// store takes, with the sections that its agent adds. The same type, default
// and sections give the same bytes. It never calls Validate.
//
// The schema accepts every document that the store decodes. It also accepts
// some that the store then refuses: texts that a type's UnmarshalText does not
// take, durations and whole floats too large, keys of a map that is not keyed
// by strings, and what only Validate refuses. Field tags: doc gives the
// description; a field that is secret is writeOnly and shows no default.
//
// It fails for a type with two fields of one name, and for one that is too
// large to describe in MaxSchemaBytes.
func (s *Store[T]) Schema(sections ...Section) ([]byte, error) {
	list, err := checked(sections, reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	parts, err := list.defaults()
	if err != nil {
		return nil, err
	}
	b := schemaBuilder{left: maxSchemaNodes, names: map[reflect.Type]string{}}
	root, err := b.node(reflect.TypeFor[T](), reflect.ValueOf(s.cfg.Default))
	if err != nil {
		return nil, err
	}
	root.Dialect, root.Format = schemaDialect, schemaFormat
	root.Type = []string{"object"} // a document is never null
	for i, section := range list {
		v := reflect.ValueOf(parts[i])
		n, err := b.node(v.Type(), v)
		if err != nil {
			return nil, err
		}
		root.property(section.Name, n)
	}
	if root.Defs, err = b.definitions(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("config schema: %w", err)
	}
	if len(data) > MaxSchemaBytes {
		return nil, fmt.Errorf("config schema of %s has %d bytes: want at most %d", reflect.TypeFor[T](), len(data), MaxSchemaBytes)
	}
	return data, nil
}

func (n *schemaNode) property(name string, of *schemaNode) {
	if n.Properties == nil {
		n.Properties = map[string]*schemaNode{}
	}
	n.Properties[name] = of
}

// schemaBuilder describes types. A type within itself is described once,
// under $defs, without a default.
type schemaBuilder struct {
	left  int // nodes that may still be made
	open  []reflect.Type
	names map[reflect.Type]string // of definitions
	defs  []reflect.Type          // in the order in which they were met
}

func (b *schemaBuilder) definitions() (map[string]*schemaNode, error) {
	var all map[string]*schemaNode
	for i := 0; i < len(b.defs); i++ { // a definition may add others
		n, err := b.node(b.defs[i], fresh(b.defs[i]))
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = map[string]*schemaNode{}
		}
		all[b.names[b.defs[i]]] = n
	}
	return all, nil
}

func (b *schemaBuilder) define(t reflect.Type) string {
	if name, ok := b.names[t]; ok {
		return name
	}
	name := fmt.Sprintf("T%d", len(b.defs)+1)
	b.names[t], b.defs = name, append(b.defs, t)
	return name
}

// node describes t, whose default is v where that is valid.
func (b *schemaBuilder) node(t reflect.Type, v reflect.Value) (*schemaNode, error) {
	if b.left--; b.left < 0 {
		return nil, fmt.Errorf("config schema: more than %d types within each other", maxSchemaNodes)
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Struct, reflect.Map, reflect.Slice, reflect.Array:
		for _, outer := range b.open {
			if outer == t {
				return &schemaNode{Ref: "#/$defs/" + b.define(t)}, nil
			}
		}
		b.open = append(b.open, t)
		defer func() { b.open = b.open[:len(b.open)-1] }()
	}
	if t.Kind() == reflect.Pointer {
		if v.IsValid() && v.IsNil() {
			v = reflect.Value{}
		} else if v.IsValid() {
			v = v.Elem()
		}
		return b.node(t.Elem(), v)
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ UnmarshalMapstructure(any) error }]()) {
		return &schemaNode{}, nil // it takes what it likes
	}
	n, err := b.kind(t, v)
	if err != nil {
		return nil, err
	}
	if n.Type == nil {
		return n, nil
	}
	switch {
	case isOnlyText(t):
		n = &schemaNode{Type: []string{"string"}}
	case isText(t) && t.Kind() != reflect.String:
		n.Type = append([]string{"string"}, n.Type...)
	}
	// null takes away what earlier documents say, whatever the type.
	n.Type = append(n.Type, "null")
	if t.Kind() != reflect.Struct || isText(t) {
		if plain, ok := b.plain(v); ok {
			n.Default = plain
		}
	}
	if t == reflect.TypeFor[Secret]() {
		n.WriteOnly, n.Default = true, nil
	}
	return n, nil
}

func isText(t reflect.Type) bool {
	return t.Kind() != reflect.Interface && reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// isOnlyText reports whether nothing of t can be set but by a text.
func isOnlyText(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || !isText(t) {
		return false
	}
	for range fields(t) {
		return false
	}
	return true
}

// kind describes t by its kind. A node without a type accepts everything.
func (b *schemaBuilder) kind(t reflect.Type, v reflect.Value) (*schemaNode, error) {
	if t == reflect.TypeFor[time.Duration]() {
		// Of the numbers only 0 needs no unit.
		return &schemaNode{Type: []string{"string", "integer"}, Pattern: durationPattern, Minimum: 0, Maximum: 0}, nil
	}
	switch t.Kind() {
	case reflect.Bool:
		return &schemaNode{Type: []string{"boolean"}}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		highest := int64(math.MaxInt64) >> (64 - t.Bits())
		return &schemaNode{Type: []string{"integer"}, Minimum: -highest - 1, Maximum: highest}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &schemaNode{Type: []string{"integer"}, Minimum: 0, Maximum: uint64(math.MaxUint64) >> (64 - t.Bits())}, nil
	case reflect.Float32:
		return &schemaNode{Type: []string{"number"}, Minimum: -math.MaxFloat32, Maximum: math.MaxFloat32}, nil
	case reflect.Float64:
		return &schemaNode{Type: []string{"number"}}, nil
	case reflect.String:
		return &schemaNode{Type: []string{"string"}}, nil
	case reflect.Slice, reflect.Array:
		items, err := b.node(t.Elem(), fresh(t.Elem()))
		n := &schemaNode{Type: []string{"array"}, Items: items}
		if t.Kind() == reflect.Array {
			length := t.Len()
			n.MaxItems = &length
		}
		return n, err
	case reflect.Map:
		entry, err := b.node(t.Elem(), fresh(t.Elem()))
		return &schemaNode{Type: []string{"object"}, Others: &others{entry}}, err
	case reflect.Struct:
		n := &schemaNode{Type: []string{"object"}, Others: &others{}}
		return n, b.fields(n, t, v, true)
	case reflect.Interface:
		return &schemaNode{}, nil
	default: // nothing can be decoded into it
		return &schemaNode{Type: []string{}}, nil
	}
}

// fresh is a struct that a document adds to a list or a map, before the
// document's values; invalid for what is no struct.
func fresh(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	if t.Kind() == reflect.Pointer {
		v = reflect.New(t.Elem()).Elem()
	}
	if v.Kind() != reflect.Struct || fill(v) != nil { // New has refused bad tags
		return reflect.Value{}
	}
	if t.Kind() == reflect.Pointer {
		return v.Addr()
	}
	return v
}

// fields adds the fields of a struct to n, by the rules of decode.
func (b *schemaBuilder) fields(n *schemaNode, t reflect.Type, v reflect.Value, settable bool) error {
	for i := range t.NumField() {
		f := t.Field(i)
		var value reflect.Value
		if v.IsValid() {
			value = v.Field(i)
		}
		name, inline := nameOf(f)
		rest := strings.Contains(f.Tag.Get("yaml"), ",remain")
		switch {
		case inline:
			if err := b.inline(n, f, value, settable); err != nil {
				return err
			}
			continue
		case !settable || !f.IsExported() || name == "-":
			continue
		case rest:
			n.Others = &others{&schemaNode{}}
			continue
		}
		if isSecret(f) {
			value = reflect.Value{}
		}
		of, err := b.node(f.Type, value)
		if err != nil {
			return err
		}
		if n.Properties[name] != nil {
			return fmt.Errorf("config schema: two fields of %s are called %q: rename one", t, name)
		}
		of.Description = f.Tag.Get("doc")
		if isSecret(f) {
			of.WriteOnly, of.Default = true, nil
		}
		n.property(name, of)
	}
	return nil
}

func (b *schemaBuilder) inline(n *schemaNode, f reflect.StructField, v reflect.Value, settable bool) error {
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
		if v.IsValid() {
			v = v.Elem() // invalid for nil
		}
	}
	if t.Kind() != reflect.Struct {
		return fmt.Errorf("config schema: field %s is inline: want a struct, found %s", f.Name, f.Type)
	}
	for _, outer := range b.open {
		if outer == t {
			return fmt.Errorf("config schema: %s is inline within itself", t)
		}
	}
	b.open = append(b.open, t)
	defer func() { b.open = b.open[:len(b.open)-1] }()
	return b.fields(n, t, v, settable && (f.IsExported() || f.Anonymous))
}
