package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// redacted stands for a secret wherever it is shown.
const redacted = "(secret)"

// Secret is a text that is not to be seen: it prints, with any verb, logs and
// marshals, as JSON or YAML, as "(secret)", or as nothing if it is empty.
// Documents give it as a string. Compare with Equal or reflect.DeepEqual.
type Secret struct {
	// A pointer: package fmt calls no method of an unexported field that
	// holds a Secret, and would print what is here.
	text *string
}

// NewSecret returns a Secret that hides text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Equal reports whether both hide the same text.
func (s Secret) Equal(other Secret) bool { return s.Reveal() == other.Reveal() }

// String returns "(secret)", or nothing for nothing.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return redacted
}

// Format implements fmt.Formatter for all verbs.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler, for JSON and others.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML implements the YAML packages' Marshaler.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It refuses "(secret)": a
// document that was shown without its secrets does not have them.
func (s *Secret) UnmarshalText(text []byte) error {
	if string(text) == redacted {
		return errors.New(`want the secret itself, found "(secret)", which is how it is shown`)
	}
	*s = NewSecret(string(text))
	return nil
}

// Redacted returns a copy of v in which the fields tagged secret:"true" show
// "(secret)" where they are strings and are zero where they are not. Of type
// Secret they hide themselves.
func Redacted[T any](v T) T {
	out := clone(v)
	hide(reflect.ValueOf(&out).Elem())
	return out
}

// hide overwrites what is tagged secret below v.
func hide(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			hide(v.Elem())
		}
	case reflect.Interface:
		if !v.IsNil() {
			held := reflect.New(v.Elem().Type()).Elem()
			held.Set(v.Elem())
			hide(held)
			v.Set(held)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case !reachable(f):
			case !isSecret(f):
				hide(v.Field(i))
			case f.Type.Kind() == reflect.String && !v.Field(i).IsZero():
				v.Field(i).SetString(redacted)
			case f.Type != reflect.TypeFor[Secret]():
				v.Field(i).SetZero()
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			hide(v.Index(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			e := reflect.New(v.Type().Elem()).Elem()
			e.Set(it.Value())
			hide(e)
			v.SetMapIndex(it.Key(), e)
		}
	default: // nothing is tagged in it
	}
}

// isSecret reports whether a field's value is not to be shown, by its tag or
// its type.
func isSecret(f reflect.StructField) bool {
	return f.Tag.Get("secret") == "true" || indirect(f.Type) == reflect.TypeFor[Secret]()
}

// secretsIn collects the texts in v that are not to be shown.
func secretsIn(v reflect.Value, secret bool, found *[]string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			secretsIn(v.Elem(), secret, found)
		}
	case reflect.String:
		if secret {
			*found = append(*found, v.String())
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[Secret]() {
			if s, ok := reflect.TypeAssert[Secret](v); ok {
				*found = append(*found, s.Reveal())
			}
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); reachable(f) {
				secretsIn(v.Field(i), secret || isSecret(f), found)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			secretsIn(v.Index(i), secret, found)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			secretsIn(it.Value(), secret, found)
		}
	default: // numbers are too short to be told from others in a message
	}
}

// secretsInDocument collects the same from doc, a document's value for a t.
func secretsInDocument(doc any, t reflect.Type, secret bool, found *[]string) {
	t = indirect(t)
	secret = secret || t == reflect.TypeFor[Secret]()
	switch doc := doc.(type) {
	case map[string]any:
		byName := map[string]field{}
		for f := range fields(t) {
			byName[f.name] = f
		}
		for k, v := range doc {
			f, ok := byName[k]
			switch {
			case ok:
				secretsInDocument(v, f.at.Type, secret || isSecret(f.at), found)
			case t.Kind() == reflect.Map:
				secretsInDocument(v, t.Elem(), secret, found)
			case secret:
				secretsInDocument(v, t, true, found)
			}
		}
	case []any:
		of := t
		if t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
			of = t.Elem()
		}
		for _, v := range doc {
			secretsInDocument(v, of, secret, found)
		}
	case string:
		if secret {
			*found = append(*found, doc)
		}
	}
}

// leastSecret is the length in bytes below which a secret is not looked for
// in messages: it would be found in every word.
const leastSecret = 4

// veil takes secrets out of a message that may quote them.
func veil(message string, secrets []string) string {
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, secret := range secrets {
		if len(secret) < leastSecret {
			break
		}
		quoted := strconv.Quote(secret)
		message = strings.ReplaceAll(message, quoted[1:len(quoted)-1], redacted)
		message = strings.ReplaceAll(message, secret, redacted)
	}
	return message
}
