package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseReadsYAMLAndJSON(t *testing.T) {
	for name, c := range map[string]struct{ document, want string }{
		"JSON":                         {`{"a": {"b": [1, "x", true, null]}}`, `{"a":{"b":[1,"x",true,null]}}`},
		"YAML":                         {"a:\n  b: [1, x, true, ~]\n", `{"a":{"b":[1,"x",true,null]}}`},
		"a date stays text":            {"a: 2020-01-02", `{"a":"2020-01-02"}`},
		"a number as key":              {"8080: web", `{"8080":"web"}`},
		"alias":                        {"a: &x {n: 1}\nb: *x", `{"a":{"n":1},"b":{"n":1}}`},
		"merge: own keys win":          {"a: &x {n: 1, m: 1}\nb: {<<: *x, n: 2}", `{"a":{"m":1,"n":1},"b":{"m":1,"n":2}}`},
		"merge: own keys win, any way": {"a: &x {n: 1, m: 1}\nb: {n: 2, <<: *x}", `{"a":{"m":1,"n":1},"b":{"m":1,"n":2}}`},
		"merge: the first of several":  {"a: [&x {n: 1}, &y {n: 2, m: 2}]\nb: {<<: [*x, *y]}", `{"a":[{"n":1},{"m":2,"n":2}],"b":{"m":2,"n":1}}`},
	} {
		m, err := parse([]byte(c.document), DefaultMaxBytes)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := json.Marshal(m.values); err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, c.want)
		}
	}
}

func TestMergeIsDeepAndLeavesItsSourcesAlone(t *testing.T) {
	layers := []string{
		`{"m": {"a": 1, "deep": {"x": 1, "y": 1}}, "list": [1, 2, 3], "s": "old", "gone": 1}`,
		`{"m": {"a": 2, "b": 2, "deep": {"y": 2}}, "list": [4], "gone": null}`,
		`{"m": {"deep": {"x": null}}, "s": {"now": "a map", "null": null}}`,
	}
	var merged map[string]any
	var parsed []map[string]any
	for _, l := range layers {
		m, err := parse([]byte(l), DefaultMaxBytes)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, m.values)
		merged = merge(merged, m.values)
	}
	got, err := json.Marshal(merged)
	want := `{"list":[4],"m":{"a":2,"b":2,"deep":{"y":2}},"s":{"now":"a map"}}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	for i, l := range layers {
		if again, err := parse([]byte(l), DefaultMaxBytes); err != nil || !reflect.DeepEqual(again.values, parsed[i]) {
			t.Errorf("layer %d was changed to %v", i, parsed[i])
		}
	}
}

// TestErrorsPointIntoTheText: a document of a thousand lines is otherwise
// searched by hand, in a hurry.
func TestErrorsPointIntoTheText(t *testing.T) {
	for name, c := range map[string]struct{ document, want string }{
		"unknown field":              {"float: 1\nlist:\n  - n: 1\n    x: 2\n", "line 4, column 5: unknown field list[0].x"},
		"unknown, inlined":           {"n: 1\ns: 2\n", "line 2, column 1: s: want string"},
		"JSON":                       {"{\n \"byname\": {\"a\": {\"n\":\n \"x\"}}}", `line 2, column 19: byname[a].n: want int, found text`},
		"dots in a name":             {"byname:\n  a.b: {n: 1}\n  a: {n: 1}\n  'a].b[': {n: x}\n", "line 4, column 13: byname[a].b[].n: want int"},
		"given by an alias":          {"any: &x many\nbyname:\n  a: {n: *x}\n", "line 3, column 7: byname[a].n: want int"},
		"inside what an alias gives": {"any: &x {n: many}\nbyname:\n  a: *x\n", "line 1, column 10: byname[a].n: want int"},
		"merged in":                  {"any: &x\n  n: many\nbyname:\n  a: {<<: *x, s: a}\n", "line 2, column 3: byname[a].n: want int"},
		"merged in, own key wins":    {"any: &x\n  n: 1\nbyname:\n  a:\n    <<: *x\n    n: many\n", "line 6, column 5: byname[a].n: want int"},
		"merged in from a list":      {"any: [&x {s: a}, &y {n: many}]\nbyname:\n  a: {<<: [*x, *y]}\n", "line 1, column 22: byname[a].n: want int"},
		"a key twice":                {"list: []\nbyname:\n  a: {}\n  a: {}\n", `line 4, column 3: byname: "a" is given twice`},
		"a number that is none":      {"list:\n- n: !!int x\n", "line 2, column 6: list[0].n: the value is no !!int"},
		"a key that is a list":       {"byname:\n  [a]: 1\n", "line 2, column 3: byname: a key is a list or a mapping"},
		"many":                       {strings.Repeat("a", 1000) + ": 1\n" + unknown(100), "; and 91 more"},
	} {
		doc, err := parse([]byte(c.document), DefaultMaxBytes)
		if err == nil {
			err = doc.decode(new(everything))
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n got %v\nwant %s", name, err, c.want)
		} else if len(err.Error()) > 4000 {
			t.Errorf("%s: a message of %d bytes", name, len(err.Error()))
		}
	}
}

func unknown(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "unknown%d: 1\n", i)
	}
	return b.String()
}

type inner struct {
	N int
	S string
}

type everything struct {
	Tagged   int `yaml:"other_name"`
	Until    time.Time
	Wait     *time.Duration
	List     []inner
	ByName   map[string]inner
	Any      any
	Float    float32
	Embedded inner `yaml:",inline"`
}

func fullDefault() everything {
	wait := time.Minute
	return everything{
		Tagged: 1,
		Wait:   &wait,
		List:   []inner{{1, "one"}, {2, "two"}},
		ByName: map[string]inner{"a": {1, "one"}, "b": {2, "two"}},
		Any:    map[string]any{"k": []any{1}},
	}
}

// TestDecodeOverDefault: settings that mix with the default's, or leak into
// it, give every agent another configuration.
func TestDecodeOverDefault(t *testing.T) {
	hour := time.Hour
	for name, c := range map[string]struct {
		document string
		change   func(*everything)
	}{
		"nothing":                   {"{}", func(*everything) {}},
		"by tag":                    {"other_name: 5", func(e *everything) { e.Tagged = 5 }},
		"a whole float":             {"other_name: 5.0", func(e *everything) { e.Tagged = 5 }},
		"through a pointer":         {"wait: 1h", func(e *everything) { e.Wait = &hour }},
		"text to a time":            {"until: 2020-01-02T03:04:05Z", func(e *everything) { e.Until = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC) }},
		"a list is replaced":        {"list: [{s: new}]", func(e *everything) { e.List = []inner{{0, "new"}} }},
		"a list is emptied":         {"list: []", func(e *everything) { e.List = []inner{} }},
		"a map's entry is, whole":   {"byname: {a: {s: new}}", func(e *everything) { e.ByName["a"] = inner{0, "new"} }},
		"an inlined struct":         {"n: 3", func(e *everything) { e.Embedded.N = 3 }},
		"null leaves the default":   {"list: null", func(*everything) {}},
		"an integer for a float":    {"float: 3", func(e *everything) { e.Float = 3 }},
		"zero needs no unit":        {"wait: 0", func(e *everything) { e.Wait = new(time.Duration) }},
		"whatever for an any":       {"any: [1, {a: b}]", func(e *everything) { e.Any = []any{1, map[string]any{"a": "b"}} }},
		"a duration below a second": {"wait: 1ms", func(e *everything) { d := time.Millisecond; e.Wait = &d }},
	} {
		doc, err := parse([]byte(c.document), DefaultMaxBytes)
		if err != nil {
			t.Fatal(err)
		}
		def := fullDefault()
		got, want := clone(def), fullDefault()
		c.change(&want)
		if err := doc.decode(&got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", name, got, err, want)
		}
		if !reflect.DeepEqual(def, fullDefault()) {
			t.Errorf("%s: the default became %+v", name, def)
		}
	}
}

func TestDecodeNamesEveryPath(t *testing.T) {
	for document, want := range map[string]string{
		"list: [{n: 1}, {m: 1}]":            "line 1, column 17: unknown field list[1].m: no such setting here; check the spelling, or remove it",
		"byname: {a: {m: 1}}":               "line 1, column 14: unknown field byname[a].m: no such setting here; check the spelling, or remove it",
		"Tagged: 1":                         "line 1, column 1: unknown field Tagged: no such setting here; check the spelling, or remove it",
		"list: {n: 1}":                      "line 1, column 1: list: source data must be an array or slice, got map",
		"list: [{n: x, s: 1}]\nfloat: true": "line 1, column 9: list[0].n: want int, found text; line 1, column 15: list[0].s: want string, found a number; line 2, column 1: float: want float32, found true or false",
		"until: soon":                       `line 1, column 1: until: parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006"`,
		"other_name: 9223372036854775808":   "line 1, column 1: other_name: the number does not fit: want int",
		"other_name: 1e300":                 "line 1, column 1: other_name: the number does not fit: want int",
		"other_name: .nan":                  "line 1, column 1: other_name: the number does not fit: want int",
		"float: 1e300":                      "line 1, column 1: float: the number does not fit: want float32",
		"wait: 1.5":                         "line 1, column 1: wait: want a duration with its unit, such as 5s or 1m30s, found a bare number",
	} {
		doc, err := parse([]byte(document), DefaultMaxBytes)
		if err != nil {
			t.Fatal(err)
		}
		if err := doc.decode(new(everything)); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", document, err, want)
		}
	}
}

// FuzzParse: documents come from outside; none may crash an agent, and what is
// accepted is within the limits.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"{}", "\"\": 1", "a: 1", `{"a": [1, {"b": null}]}`, "a: &x {b: 1}\nc: {<<: *x}", "a: &a [*a]",
		"? [a]\n: b", "a: !!binary aGk=", "--- {}\n--- {}", "%YAML 1.1\n---\na: .inf", "a: 2020-01-01", "\xff",
		"<<: [{a: 1}, {b: 2}]", "&a a: *a", "a: !!map []", "a: !!int {}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		const limit = 4096
		doc, err := parse(document, limit)
		if err != nil {
			if strings.Contains(err.Error(), "panic") {
				t.Error(err)
			}
			return
		}
		if len(document) > limit {
			t.Errorf("%d bytes accepted", len(document))
		}
		m := doc.values
		if n := size(m, 0, t); n > maxNodes {
			t.Errorf("%d values accepted", n)
		}
		if wrong, ok := errors.AsType[faults](doc.decode(new(everything))); ok {
			for _, f := range wrong {
				if f.line < 1 || f.column < 1 {
					t.Errorf("%+v: want its position", f)
				}
			}
		}
		merged := merge(merge(nil, m), m)
		if over := merge(nil, merged); !reflect.DeepEqual(over, merged) && !strings.Contains(string(document), "nan") {
			t.Errorf("merging is not stable: %v, %v", merged, over)
		}
	})
}

func size(v any, depth int, t *testing.T) int {
	if depth > maxDepth+1 {
		t.Fatalf("%d deep accepted", depth)
	}
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			n += size(e, depth+1, t)
		}
	case []any:
		for _, e := range v {
			n += size(e, depth+1, t)
		}
	}
	return n
}
