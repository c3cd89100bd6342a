package config

import (
	"encoding"
	"math"
	"reflect"
	"time"
)

// plain is the default v as a document would have it; not ok where there is
// none, where it cannot be written in one, or where part of it is secret.
func (b *schemaBuilder) plain(v reflect.Value) (any, bool) {
	if b.left--; b.left < 0 || !v.IsValid() || v.Type() == reflect.TypeFor[Secret]() {
		return nil, false
	}
	if d, ok := v.Interface().(time.Duration); ok {
		return d.String(), true
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
		if v.IsNil() {
			return nil, false
		}
	}
	if isText(v.Type()) {
		m, ok := v.Interface().(encoding.TextMarshaler)
		if !ok || v.IsZero() {
			return nil, false // the zero time, say, is no value to set
		}
		text, err := m.MarshalText()
		return string(text), err == nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return b.plain(v.Elem())
	case reflect.Bool:
		return v.Bool(), true
	case reflect.String:
		return v.String(), true
	case reflect.Float32, reflect.Float64:
		return v.Float(), !math.IsNaN(v.Float()) && !math.IsInf(v.Float(), 0)
	case reflect.Slice, reflect.Array:
		return b.plainList(v)
	case reflect.Map:
		return b.plainMap(v)
	case reflect.Struct:
		m := map[string]any{}
		return m, b.plainFields(m, v)
	}
	switch {
	case v.CanInt():
		return v.Int(), true
	case v.CanUint():
		return v.Uint(), true
	}
	return nil, false
}

func (b *schemaBuilder) plainList(v reflect.Value) (any, bool) {
	list := make([]any, v.Len())
	for i := range list {
		var ok bool
		if list[i], ok = b.plain(v.Index(i)); !ok {
			return nil, false
		}
	}
	return list, true
}

func (b *schemaBuilder) plainMap(v reflect.Value) (any, bool) {
	if v.Type().Key().Kind() != reflect.String {
		return nil, false
	}
	m := make(map[string]any, v.Len())
	for it := v.MapRange(); it.Next(); {
		value, ok := b.plain(it.Value())
		if !ok {
			return nil, false
		}
		m[it.Key().String()] = value
	}
	return m, true
}

// plainFields adds the fields of a struct within a list or a map. Those
// without a default of their own are left out.
func (b *schemaBuilder) plainFields(m map[string]any, v reflect.Value) bool {
	for i := range v.NumField() {
		f, value := v.Type().Field(i), v.Field(i)
		name, inline := nameOf(f)
		switch {
		case isSecret(f):
			return false
		case inline && value.Kind() == reflect.Struct:
			if !b.plainFields(m, value) {
				return false
			}
		case !f.IsExported() || isNil(value):
		default:
			p, ok := b.plain(value)
			if !ok {
				return false
			}
			m[name] = p
		}
	}
	return true
}

func isNil(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
		return v.IsNil()
	}
	return false
}
