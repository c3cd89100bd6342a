package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
)

// Section is a part of the documents that is a library's and not the
// program's: a top-level mapping, such as "perennial", that the program's
// type does not have and does not see. It is layered, decoded and checked by
// the same rules, together with the rest: one bad section holds back all.
type Section struct {
	// Name is the mapping's key.
	Name string
	// New returns a pointer to a new struct that holds the section's
	// defaults. Its default tags are applied, and its Validate methods called,
	// as those of the program's type are.
	New func() any
	// Apply gets what New returned, with what the documents say about it: the
	// first, and then each that differs. It is called as a subscriber is (see
	// Sub), before all of those: after an error everybody keeps the former
	// configuration, and Apply may be called with that again. value is shared
	// and must not be modified.
	Apply func(ctx context.Context, value any) error
}

// sections are those of a Run, with what their defaults come to.
type sections []Section

// checked refuses sections that cannot work beside a program's type of.
func checked(list []Section, of reflect.Type) (sections, error) {
	seen := map[string]bool{}
	for _, s := range list {
		if s.Name == "" || s.New == nil || s.Apply == nil {
			return nil, fmt.Errorf("config section %q: want a Name, New and Apply", s.Name)
		}
		v := reflect.ValueOf(s.New())
		if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
			return nil, fmt.Errorf("config section %q: New returned %T: want a pointer to a struct", s.Name, s.New())
		}
		if seen[s.Name] {
			return nil, fmt.Errorf("config section %q is given twice", s.Name)
		}
		seen[s.Name] = true
		if hasField(of, s.Name) {
			return nil, fmt.Errorf("config of type %s: it has a field %q, which is the name of a section that a library reserves: rename the field", of, s.Name)
		}
	}
	return list, nil
}

// hasField reports whether documents for the type t have name at the top.
func hasField(t reflect.Type, name string) bool {
	for f := range fields(t) {
		if f.name == name {
			return true
		}
	}
	return false
}

// defaults returns the sections' values where no document says anything.
func (list sections) defaults() ([]any, error) {
	values := make([]any, len(list))
	for i, s := range list {
		values[i] = s.New()
		if err := fillDefaults(values[i]); err != nil {
			return nil, fmt.Errorf("config section %q: %w", s.Name, err)
		}
	}
	return values, nil
}

// split takes the sections' mappings out of doc, which is not changed, in
// their order.
func (list sections) split(doc map[string]any) (rest map[string]any, parts []any) {
	if len(list) == 0 {
		return doc, nil
	}
	rest, parts = maps.Clone(doc), make([]any, len(list))
	for i, s := range list {
		parts[i] = rest[s.Name]
		delete(rest, s.Name)
	}
	return rest, parts
}

// decode lays a document's part over value, a section's.
func (s Section) decode(part, value any) error {
	if part == nil {
		return nil
	}
	m, ok := part.(map[string]any)
	if !ok {
		return faults{{path: s.Name, reason: "want a mapping, found " + typeName(part)}}
	}
	err := decode(m, value)
	if wrong, ok := errors.AsType[faults](err); ok {
		for i := range wrong {
			wrong[i].path = join(s.Name, wrong[i].path)
		}
	}
	return err
}
