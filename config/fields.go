package config

import (
	"iter"
	"reflect"
	"strings"
)

// field is a field of a struct as documents see it.
type field struct {
	name string // in documents
	at   reflect.StructField
	// index is the path to it through inlined structs.
	index []int
}

// fields yields what documents may name in a t, by the decoder's rules: the
// yaml tag, or else the lower-case name; inlined structs as their fields. Of
// anything but a struct, or a pointer to one, there is nothing.
func fields(t reflect.Type) iter.Seq[field] {
	return func(yield func(field) bool) { eachField(t, nil, yield) }
}

func eachField(t reflect.Type, above []int, yield func(field) bool) bool {
	t = indirect(t)
	if t.Kind() != reflect.Struct {
		return true
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if !reachable(f) {
			continue
		}
		name, inline := nameOf(f)
		if name == "-" {
			continue
		}
		index := append(append([]int(nil), above...), i)
		if inline {
			if !eachField(f.Type, index, yield) {
				return false
			}
			continue
		}
		if !yield(field{name: name, at: f, index: index}) {
			return false
		}
	}
	return true
}

// nameOf returns what documents call f: "-" = nothing.
func nameOf(f reflect.StructField) (name string, inline bool) {
	name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "" {
		name = strings.ToLower(f.Name)
	}
	return name, strings.Contains(","+options+",", ",inline,")
}

func indirect(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// reachable reports whether documents may get to f or to what is in it: the
// decoder enters an embedded struct whose own name is not exported.
func reachable(f reflect.StructField) bool {
	return f.IsExported() || f.Anonymous && f.Type.Kind() == reflect.Struct
}
