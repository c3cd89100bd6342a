// Package schemacheck tells what is wrong with a configuration document by
// the JSON Schema that agents have published, before they see it.
package schemacheck

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/perennial-go/perennial/config"
)

// unknown is the reason of a Fault that is Unknown.
const unknown = "no such setting here; check the spelling, or remove it"

// Checker checks documents by one schema. Make it with New. It may be used by
// several goroutines.
type Checker struct{ schema *jsonschema.Schema }

// Fault is what is wrong at one place. It never tells a value.
type Fault struct {
	// Path is as in agents' messages: a.b[2].c; empty for the whole.
	Path string `json:"path"`
	// Line and Column count from 1; 0 where they are not known.
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Reason string `json:"reason"`
	// Unknown: there is no such field.
	Unknown bool `json:"unknown,omitempty"`
}

// String is one line: where, then what.
func (f Fault) String() string {
	text := f.Reason
	switch {
	case f.Unknown:
		text = "unknown field " + f.Path + ": " + text
	case f.Path != "":
		text = f.Path + ": " + text
	}
	if f.Line > 0 {
		text = fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, text)
	}
	return text
}

// New compiles schema. It reads nothing that the schema may refer to.
func New(schema *config.Schema) (*Checker, error) {
	data, err := schema.MarshalJSON()
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	const name = "urn:agentd:config"
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noLoader{})
	if err := compiler.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("config schema %s: %w", schema.Digest, err)
	}
	compiled, err := compiler.Compile(name)
	if err != nil {
		return nil, fmt.Errorf("config schema %s: %w", schema.Digest, err)
	}
	return &Checker{compiled}, nil
}

// noLoader keeps a schema from having files read.
type noLoader struct{}

// Load implements jsonschema.URLLoader.
func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: a schema must not refer to another one", url)
}

// Check returns what is wrong with the document, by line and column; nil if
// it is good.
func (c *Checker) Check(document *config.Parsed) []Fault {
	err := c.schema.Validate(plain(document.Values()))
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return []Fault{{Reason: err.Error()}}
	}
	var faults []Fault
	collect(invalid, func(path, reason string) {
		f := Fault{Path: path, Reason: reason, Unknown: reason == unknown}
		f.Line, f.Column, _ = document.Position(path)
		faults = append(faults, f)
	})
	slices.SortFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Reason, b.Reason))
	})
	return slices.Compact(faults)
}

// plain replaces what JSON does not have, infinity and NaN, by a fraction: it
// fits where they do.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for name, value := range v {
			m[name] = plain(value)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, value := range v {
			list[i] = plain(value)
		}
		return list
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0.5
		}
	}
	return v
}

func collect(e *jsonschema.ValidationError, found func(path, reason string)) {
	for _, cause := range e.Causes {
		collect(cause, found)
	}
	if len(e.Causes) > 0 {
		return
	}
	path := pathOf(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			found(join(path, name), unknown)
		}
	case *kind.FalseSchema:
		found(path, unknown)
	case *kind.Type:
		found(path, fmt.Sprintf("want %s, found %s", wanted(k.Want), word(k.Got)))
	case *kind.Pattern:
		found(path, "want a duration with its unit, such as 5s or 1m30s")
	case *kind.Minimum:
		least, _ := k.Want.Float64()
		found(path, "the number does not fit: want at least "+number(least))
	case *kind.Maximum:
		most, _ := k.Want.Float64()
		if most == 0 {
			found(path, "want a duration with its unit, such as 5s or 1m30s, found a bare number")
			return
		}
		found(path, "the number does not fit: want at most "+number(most))
	case *kind.MaxItems:
		found(path, fmt.Sprintf("want at most %d items, found %d", k.Want, k.Got))
	default:
		found(path, fmt.Sprintf("it does not meet %q of the schema", strings.Join(k.KeywordPath(), "/")))
	}
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// wanted names the types of JSON in the words of YAML; null is always
// allowed, and not worth a word.
func wanted(types []string) string {
	var words []string
	for _, t := range types {
		if t != "null" {
			words = append(words, word(t))
		}
	}
	if len(words) == 0 {
		return "nothing here"
	}
	return strings.Join(words, " or ")
}

func word(t string) string {
	switch t {
	case "object":
		return "a mapping"
	case "array":
		return "a list"
	case "string":
		return "text"
	case "integer":
		return "a whole number"
	case "number":
		return "a number"
	case "boolean":
		return "true or false"
	}
	return t
}

// pathOf writes a location as agents do. An index cannot be told from a name
// of digits here; names of fields are none.
func pathOf(location []string) string {
	path := ""
	for _, name := range location {
		if _, err := strconv.Atoi(name); err == nil && path != "" {
			path += "[" + name + "]"
		} else {
			path = join(path, name)
		}
	}
	return path
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
