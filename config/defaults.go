package config

import (
	"encoding"
	"fmt"
	"reflect"
	"time"
)

// fillDefaults gives each field of the struct that value points to what its
// default tag says, where it is zero, and so in the structs below.
func fillDefaults(value any) error { return fill(reflect.ValueOf(value).Elem()) }

func fill(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return fill(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		if !holdsStructs(v.Type()) {
			return nil
		}
		for i := range v.Len() {
			if err := fill(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		if !holdsStructs(v.Type()) {
			return nil
		}
		for it := v.MapRange(); it.Next(); {
			e := reflect.New(v.Type().Elem()).Elem()
			e.Set(it.Value())
			if err := fill(e); err != nil {
				return err
			}
			v.SetMapIndex(it.Key(), e)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if err := fillField(v.Type().Field(i), v.Field(i)); err != nil {
				return err
			}
		}
	default: // nothing in it has tags
	}
	return nil
}

func holdsStructs(t reflect.Type) bool { return indirect(t.Elem()).Kind() == reflect.Struct }

func fillField(f reflect.StructField, v reflect.Value) error {
	if !reachable(f) {
		return nil
	}
	text, tagged := f.Tag.Lookup("default")
	if !tagged || !v.IsZero() {
		return fill(v)
	}
	value, err := fromText(f.Type, text)
	if err == nil {
		err = decodeValue(value, v.Addr().Interface())
	}
	if err != nil {
		return fmt.Errorf("tag default:%q of %s: %w", text, f.Name, err)
	}
	return fill(v)
}

// checkDefaults reports the first default tag in the types below t that does
// not fit its field.
func checkDefaults(t reflect.Type, seen map[reflect.Type]bool) error {
	if seen[t] {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return checkDefaults(t.Elem(), seen)
	case reflect.Struct:
		if err := fill(reflect.New(t).Elem()); err != nil {
			return fmt.Errorf("config of type %s: %w", t, err)
		}
		for f := range t.Fields() {
			if reachable(f) {
				if err := checkDefaults(f.Type, seen); err != nil {
					return err
				}
			}
		}
	default: // has no tags
	}
	return nil
}

// fromText makes of text, a tag's or a variable's, what a document would hold
// for a t: for a string the text as it is, for anything else a value in YAML.
func fromText(t reflect.Type, text string) (any, error) {
	t = indirect(t)
	if t.Kind() == reflect.String || t == reflect.TypeFor[time.Duration]() ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return text, nil
	}
	v, _, err := parseValue([]byte(text), DefaultMaxBytes)
	if err != nil {
		return nil, fmt.Errorf("want %s, in YAML: %w", t, err)
	}
	return v, nil
}
