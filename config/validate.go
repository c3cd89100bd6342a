package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
)

// Validator is what a type in a configuration may have, on its value or its
// pointer: the program's type itself, and those nested in it. It may complete
// what it is given, and must not keep it. Where its error begins with the path
// of a field below and a colon, "read_timeout: too short", the field is looked
// up in the documents.
type Validator interface{ Validate() error }

// validate calls the Validate methods of what is below value, a pointer, and
// then its own. The error names the path.
func validate(value any) error { return validateAt(reflect.ValueOf(value).Elem(), "") }

func validateAt(v reflect.Value, path string) error {
	if err := validateBelow(v, path); err != nil {
		return err
	}
	// A pointer's target was asked already.
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface || !v.CanAddr() || !v.Addr().CanInterface() {
		return nil
	}
	own, ok := reflect.TypeAssert[Validator](v.Addr())
	if !ok {
		return nil
	}
	err := guard(own.Validate)
	if err == nil || path == "" {
		return err
	}
	below := asFault(err)
	return fault{path: join(path, below.path), reason: below.reason}
}

func validateBelow(v reflect.Value, path string) error {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return validateAt(v.Elem(), path)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !reachable(f) {
				continue
			}
			below := path
			if name, inline := nameOf(f); !inline {
				below = join(path, name)
			}
			if err := validateAt(v.Field(i), below); err != nil {
				return err
			}
		}
	case reflect.Slice, reflect.Array:
		if indirect(v.Type().Elem()).Kind() == reflect.Uint8 {
			return nil
		}
		for i := range v.Len() {
			if err := validateAt(v.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			e := reflect.New(v.Type().Elem()).Elem()
			e.Set(it.Value())
			if err := validateAt(e, fmt.Sprintf("%s[%v]", path, it.Key())); err != nil {
				return err
			}
			v.SetMapIndex(it.Key(), e)
		}
	default: // has nothing below
	}
	return nil
}

// guard turns a panic of the program's own code into an error: a document
// must not be able to end every agent of a fleet.
func guard(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &panicked{value: r, where: panicOrigin()}
		}
	}()
	return call()
}

// panicked is the error that guard makes.
type panicked struct {
	value any
	where string
}

func (p *panicked) Error() string { return fmt.Sprintf("it panicked%s: %v", p.where, p.value) }

// panicOrigin tells the deferred function that recovers where the panic began.
func panicOrigin() string {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for panicking := false; ; {
		frame, more := frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if panicking && !inRuntime {
			return fmt.Sprintf(" in %s, %s:%d", frame.Function, filepath.Base(frame.File), frame.Line)
		}
		if panicking = panicking || frame.Function == "runtime.gopanic"; !more {
			return ""
		}
	}
}
