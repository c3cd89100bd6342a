package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// variable is an environment variable that sets one field.
type variable struct {
	name string
	path []string
	of   reflect.Type
}

// variables returns the environment variables that set the fields of a t: the
// prefix and the path in capitals, or what the env tag says. Lists and maps
// are one variable each, in YAML.
func variables(prefix string, t reflect.Type, above []string) ([]variable, error) {
	if prefix == "" {
		return nil, nil
	}
	vars := walkVariables(prefix, t, above, nil)
	by := map[string]string{}
	for _, v := range vars {
		path := strings.Join(v.path, ".")
		if other, twice := by[v.name]; twice {
			return nil, fmt.Errorf("config of type %s: the environment variable %s would set both %s and %s: give one of them an env tag", t, v.name, other, path)
		}
		by[v.name] = path
	}
	return vars, nil
}

// walkVariables goes down the structs of a t, into each type once.
func walkVariables(prefix string, t reflect.Type, above []string, within []reflect.Type) []variable {
	t = indirect(t)
	if slices.Contains(within, t) {
		return nil
	}
	within = append(slices.Clip(within), t)
	var vars []variable
	for f := range fields(t) {
		path := append(slices.Clip(above), f.name)
		name := f.at.Tag.Get("env")
		switch name {
		case "-":
			continue
		case "":
			name = prefix + variableName(path)
		}
		if isLeaf(f.at.Type) {
			vars = append(vars, variable{name: name, path: path, of: f.at.Type})
		} else {
			vars = append(vars, walkVariables(prefix, f.at.Type, path, within)...)
		}
	}
	return vars
}

// isLeaf reports whether a t is set as a whole.
func isLeaf(t reflect.Type) bool {
	t = indirect(t)
	return t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// variableName spells a path as variables are.
func variableName(path []string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		default:
			return '_'
		}
	}, strings.Join(path, "_"))
}

// readEnvironment makes a document of what environ, as of os.Environ, sets;
// an empty variable sets nothing. Names with the prefix that set no field are
// returned as unknown.
func readEnvironment(prefix string, vars []variable, environ []string) (t *tree, unknown []string, err error) {
	if prefix == "" {
		return nil, nil, nil
	}
	by := make(map[string]variable, len(vars))
	for _, v := range vars {
		by[v.name] = v
	}
	t = &tree{values: map[string]any{}, variables: map[string]string{}}
	var errs []error
	for _, pair := range environ {
		name, text, _ := strings.Cut(pair, "=")
		v, known := by[name]
		switch {
		case !known && strings.HasPrefix(name, prefix):
			unknown = append(unknown, name)
		case !known || text == "":
		default:
			value, err := fromText(v.of, text)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
				continue
			}
			t.set(v, value)
		}
	}
	slices.Sort(unknown)
	if len(t.values) == 0 {
		t = nil
	}
	return t, unknown, errors.Join(errs...)
}

// set puts a variable's value where its path leads.
func (t *tree) set(v variable, value any) {
	m := t.values
	for _, name := range v.path[:len(v.path)-1] {
		below, ok := m[name].(map[string]any)
		if !ok {
			below = map[string]any{}
			m[name] = below
		}
		m = below
	}
	m[v.path[len(v.path)-1]] = value
	t.variables[strings.Join(v.path, ".")] = v.name
}
