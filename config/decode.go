package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
)

// decode sets the fields of out, a pointer, that t names. Its errors name the
// path of each field that is wrong, and its line and column.
func (t *tree) decode(out any) error {
	err := decode(t.values, out)
	if wrong, ok := errors.AsType[faults](err); ok {
		return t.locate(wrong)
	}
	return err
}

// decode sets the fields of out, a pointer, that doc names. What is wrong
// with fields is returned as faults.
func decode(doc map[string]any, out any) error { return decodeValue(doc, out) }

// decodeValue is decode for a value of any kind.
func decodeValue(in, out any) error {
	var meta mapstructure.Metadata
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result:          out,
		Metadata:        &meta,
		TagName:         "yaml",
		SquashTagOption: "inline",
		MapFieldName:    strings.ToLower,
		MatchName:       func(key, field string) bool { return key == field },
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			replaceWhole,
			freshDefaults,
			onlyText,
			noHidden,
			mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.TextUnmarshallerHookFunc(),
			exactNumbers,
		),
	})
	if err != nil {
		return err
	}
	if err := decoder.Decode(in); err != nil {
		return describe(err)
	}
	var unknown faults
	for _, path := range meta.Unused {
		unknown = append(unknown, fault{path: path, unknown: true})
	}
	return unknown.err()
}

// replaceWhole empties a list before it is filled, and an interface: otherwise
// an element would keep what the default's element at that place has, and an
// interface its type.
func replaceWhole(from, to reflect.Value) (any, error) {
	kind := to.Kind()
	if to.CanSet() && (kind == reflect.Slice || kind == reflect.Array || kind == reflect.Interface) {
		to.SetZero()
	}
	return from.Interface(), nil
}

// freshDefaults gives a struct that a document adds, such as an element of a
// list, what its tags say.
func freshDefaults(from, to reflect.Value) (any, error) {
	if to.Kind() == reflect.Struct && to.CanAddr() && to.CanSet() && to.IsZero() {
		if err := fill(to); err != nil {
			return nil, err
		}
	}
	return from.Interface(), nil
}

// onlyText refuses an empty mapping where only a text can set anything, such
// as for a time.
func onlyText(from, to reflect.Value) (any, error) {
	if from.Kind() == reflect.Map && isOnlyText(to.Type()) {
		return nil, errors.New("want text, found a mapping")
	}
	return from.Interface(), nil
}

// errHidden is that a document names a field that is not for documents.
var errHidden = errors.New(`the name "-" is none`)

// noHidden refuses the key by which the decoder would set fields tagged
// yaml:"-".
func noHidden(from, to reflect.Value) (any, error) {
	if m, ok := reflect.TypeAssert[map[string]any](from); ok && to.Kind() == reflect.Struct {
		if _, named := m["-"]; named && hidesField(to.Type()) {
			return nil, errHidden
		}
	}
	return from.Interface(), nil
}

// hidesField reports whether a struct, or one inlined in it, has a field that
// is tagged yaml:"-".
func hidesField(t reflect.Type) bool {
	t = indirect(t)
	if t.Kind() != reflect.Struct {
		return false
	}
	for f := range t.Fields() {
		name, inline := nameOf(f)
		if name == "-" || inline && hidesField(f.Type) {
			return true
		}
	}
	return false
}

// exactNumbers refuses the conversions that would change a number silently.
func exactNumbers(from, to reflect.Value) (any, error) {
	data := from.Interface()
	if from.Kind() == reflect.Interface {
		from = from.Elem()
	}
	if !from.CanInt() && !from.CanUint() && !from.CanFloat() {
		return data, nil
	}
	if duration := reflect.TypeFor[time.Duration](); to.Type() == duration {
		if from.Type() == duration || from.IsZero() {
			return data, nil
		}
		return nil, errors.New("want a duration with its unit, such as 5s or 1m30s, found a bare number")
	}
	fits := true
	switch {
	case to.CanInt():
		fits = fitsInt(from, to)
	case to.CanUint():
		fits = fitsUint(from, to)
	case to.CanFloat() && from.CanFloat():
		fits = !to.OverflowFloat(from.Float())
	}
	if !fits {
		return nil, fmt.Errorf("the number does not fit: want %s", to.Type())
	}
	return data, nil
}

func fitsInt(from, to reflect.Value) bool {
	switch {
	case from.CanInt():
		return !to.OverflowInt(from.Int())
	case from.CanUint():
		// The YAML package makes an unsigned number only of one that does
		// not fit int64.
		return from.Uint() == 0
	default:
		return isWhole(from.Float()) && !to.OverflowInt(int64(from.Float()))
	}
}

func fitsUint(from, to reflect.Value) bool {
	switch {
	case from.CanInt():
		n := from.Int()
		return n >= 0 && !to.OverflowUint(uint64(n))
	case from.CanUint():
		return !to.OverflowUint(from.Uint())
	default:
		f := from.Float()
		return f >= 0 && isWhole(f) && !to.OverflowUint(uint64(f))
	}
}

// isWhole refuses fractions, and floats so large that they no longer say
// which integer was meant.
func isWhole(f float64) bool { return f == math.Trunc(f) && math.Abs(f) <= 1<<53 }

// describe takes the decoder's tree of errors apart.
func describe(err error) error {
	var wrong faults
	var walk func(error)
	walk = func(err error) {
		// An error of several is inside the one that names their path.
		if several, ok := errors.AsType[interface {
			error
			Unwrap() []error
		}](err); ok {
			for _, e := range several.Unwrap() {
				walk(e)
			}
			return
		}
		if at, ok := errors.AsType[*mapstructure.DecodeError](err); ok {
			if errors.Is(at.Unwrap(), errHidden) {
				wrong = append(wrong, fault{path: join(at.Name(), "-"), unknown: true})
			} else {
				wrong = append(wrong, fault{path: at.Name(), reason: reason(at.Unwrap())})
			}
			return
		}
		wrong = append(wrong, fault{reason: err.Error()})
	}
	walk(err)
	return wrong.err()
}

func reason(err error) string {
	if kind, ok := errors.AsType[*mapstructure.UnconvertibleTypeError](err); ok {
		return fmt.Sprintf("want %s, found %s", kind.Expected.Type(), typeName(kind.Value))
	}
	return err.Error()
}

func typeName(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case bool:
		return "true or false"
	case int, int64, uint64, float64:
		return "a number"
	default:
		return kindName(v)
	}
}
