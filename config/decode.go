package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
)

// decode sets the fields of out, a pointer, that doc names. Its errors name
// the path of each field that is wrong.
func decode(doc map[string]any, out any) error {
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
			mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.TextUnmarshallerHookFunc(),
			exactNumbers,
		),
	})
	if err != nil {
		return err
	}
	if err := decoder.Decode(doc); err != nil {
		return describe(err)
	}
	if len(meta.Unused) > 0 {
		slices.Sort(meta.Unused)
		return fmt.Errorf("unknown field %s: no such setting here; check the spelling, or remove it",
			strings.Join(meta.Unused, ", "))
	}
	return nil
}

// replaceWhole empties a list before it is filled, and an interface: otherwise
// an element would keep what the default's element at that place has, and an
// interface its type.
func replaceWhole(from, to reflect.Value) (any, error) {
	switch to.Kind() {
	case reflect.Slice, reflect.Array, reflect.Interface:
		if to.CanSet() {
			to.SetZero()
		}
	}
	return from.Interface(), nil
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
		return from.Uint() <= math.MaxInt64 && !to.OverflowInt(int64(from.Uint()))
	default:
		f := from.Float()
		// Beyond 2^53 a float no longer says which integer was meant.
		return f == math.Trunc(f) && math.Abs(f) <= 1<<53 && !to.OverflowInt(int64(f))
	}
}

func fitsUint(from, to reflect.Value) bool {
	switch {
	case from.CanInt():
		return from.Int() >= 0 && !to.OverflowUint(uint64(from.Int()))
	case from.CanUint():
		return !to.OverflowUint(from.Uint())
	default:
		f := from.Float()
		return f == math.Trunc(f) && f >= 0 && f <= 1<<53 && !to.OverflowUint(uint64(f))
	}
}

// describe turns the decoder's tree of errors into one line.
func describe(err error) error {
	var lines []string
	var walk func(error)
	walk = func(err error) {
		if several, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range several.Unwrap() {
				walk(e)
			}
			return
		}
		var at *mapstructure.DecodeError
		if !errors.As(err, &at) {
			lines = append(lines, err.Error())
			return
		}
		var several interface{ Unwrap() []error }
		if errors.As(err, &several) {
			walk(several.(error))
			return
		}
		lines = append(lines, fmt.Sprintf("%s: %s", at.Name(), reason(at.Unwrap())))
	}
	walk(err)
	slices.Sort(lines)
	return errors.New(strings.Join(lines, "; "))
}

func reason(err error) string {
	var kind *mapstructure.UnconvertibleTypeError
	if errors.As(err, &kind) {
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
