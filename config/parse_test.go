package config

import (
	"encoding/json"
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
		if got, err := json.Marshal(m); err != nil || string(got) != c.want {
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
		parsed = append(parsed, m)
		merged = merge(merged, m)
	}
	got, err := json.Marshal(merged)
	want := `{"list":[4],"m":{"a":2,"b":2,"deep":{"y":2}},"s":{"now":"a map"}}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	for i, l := range layers {
		if again, _ := parse([]byte(l), DefaultMaxBytes); !reflect.DeepEqual(again, parsed[i]) {
			t.Errorf("layer %d was changed to %v", i, parsed[i])
		}
	}
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
		if err := decode(doc, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", name, got, err, want)
		}
		if !reflect.DeepEqual(def, fullDefault()) {
			t.Errorf("%s: the default became %+v", name, def)
		}
	}
}

func TestDecodeNamesEveryPath(t *testing.T) {
	for document, want := range map[string]string{
		"list: [{n: 1}, {m: 1}]":            "unknown field list[1].m: no such setting here; check the spelling, or remove it",
		"byname: {a: {m: 1}}":               "unknown field byname[a].m: no such setting here; check the spelling, or remove it",
		"Tagged: 1":                         "unknown field Tagged: no such setting here; check the spelling, or remove it",
		"list: {n: 1}":                      "list: source data must be an array or slice, got map",
		"list: [{n: x, s: 1}]\nfloat: true": "float: want float32, found true or false; list[0].n: want int, found text; list[0].s: want string, found a number",
		"until: soon":                       `until: parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006"`,
		"other_name: 9223372036854775808":   "other_name: the number does not fit: want int",
		"other_name: 1e300":                 "other_name: the number does not fit: want int",
		"other_name: .nan":                  "other_name: the number does not fit: want int",
		"float: 1e300":                      "float: the number does not fit: want float32",
		"wait: 1.5":                         "wait: want a duration with its unit, such as 5s or 1m30s, found a bare number",
	} {
		doc, err := parse([]byte(document), DefaultMaxBytes)
		if err != nil {
			t.Fatal(err)
		}
		if err := decode(doc, new(everything)); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", document, err, want)
		}
	}
}

// FuzzParse: documents come from outside; none may crash an agent, and what is
// accepted is within the limits.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"{}", "a: 1", `{"a": [1, {"b": null}]}`, "a: &x {b: 1}\nc: {<<: *x}", "a: &a [*a]",
		"? [a]\n: b", "a: !!binary aGk=", "--- {}\n--- {}", "%YAML 1.1\n---\na: .inf", "a: 2020-01-01", "\xff",
		"<<: [{a: 1}, {b: 2}]", "&a a: *a", "a: !!map []", "a: !!int {}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		const limit = 4096
		m, err := parse(document, limit)
		if err != nil {
			if strings.Contains(err.Error(), "panic") {
				t.Error(err)
			}
			return
		}
		if len(document) > limit {
			t.Errorf("%d bytes accepted", len(document))
		}
		if n := size(m, 0, t); n > maxNodes {
			t.Errorf("%d values accepted", n)
		}
		_ = decode(m, new(everything))
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
