package schemacheck_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/examples/agentd/internal/schemacheck"
	"github.com/perennial-go/perennial/examples/agentd/internal/settings"
)

type inner struct {
	N int8
	S string `doc:"a text"`
}

type embedded struct {
	Flag bool
}

// everything has a field of each kind that documents can set.
type everything struct {
	Tagged   uint16 `yaml:"tag"`
	Wait     time.Duration
	Waits    *time.Duration
	Until    time.Time
	Address  netip.Addr
	List     []inner
	Three    [3]uint8
	Entries  map[string]inner
	Nested   map[string][]map[string]bool
	Any      any
	Single   float32
	Double   float64
	Wide     int64
	Whole    uint64
	Open     map[string]any
	In       embedded `yaml:",inline"`
	Password string   `secret:"true"`
	Token    config.Secret
	Func     func()
	Ptr      *inner
	hidden   int //nolint:unused // documents cannot set it
}

// tree is a type within itself.
type tree struct {
	Name     string
	Children []tree
	ByName   map[string]*tree
	Next     *tree
}

type subject struct {
	name  string
	root  map[string]any // the schema
	check func([]byte) error
	with  *schemacheck.Checker
}

func newSubject[T any](t testing.TB, name string, def T) subject {
	t.Helper()
	store, err := config.New(config.Config[T]{Default: def})
	if err != nil {
		t.Fatal(err)
	}
	data, err := store.Schema()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := config.ParseSchema(data)
	if err != nil {
		t.Fatal(err)
	}
	checker, err := schemacheck.New(schema)
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	return subject{name, root, func(text []byte) error { _, err := store.Check(text); return err }, checker}
}

func subjects(t testing.TB) []subject {
	return []subject{
		newSubject(t, "everything", everything{}),
		newSubject(t, "tree", tree{}),
		newSubject(t, "map", map[string]inner{}),
		newSubject(t, "settings", settings.Settings{}),
	}
}

// laxer are the reasons for which decode may refuse what the schema accepts;
// they are those that Store.Schema documents.
var laxer = regexp.MustCompile(`parsing time|ParseAddr|unable to parse IP|time: invalid duration|the number does not fit: want u?int64|want one of|, found [-\d]|is how it is shown`)

// agree fails the test where the agents and the schema see the document
// differently.
func (s subject) agree(t testing.TB, document []byte) {
	t.Helper()
	parsed, err := config.Parse(document)
	if err != nil {
		return // nobody sees its content
	}
	decoded, faults := s.check(document), s.with.Check(parsed)
	switch {
	case decoded == nil && faults != nil:
		t.Errorf("%s: agents take it, the schema refuses it: %v\n%s", s.name, faults, document)
	case decoded != nil && faults == nil && !laxer.MatchString(decoded.Error()):
		t.Errorf("%s: the schema takes it, agents refuse it: %v\n%s", s.name, decoded, document)
	}
}

// random makes documents that are mostly right.
type random struct {
	*rand.Rand
	root map[string]any
}

func pick[T any](r random, from []T) T { return from[r.IntN(len(from))] }

// value is one for a node of the schema, and now and then any other.
func (r random) value(node map[string]any, depth int) any {
	if name, ok := node["$ref"].(string); ok {
		node = r.root["$defs"].(map[string]any)[strings.TrimPrefix(name, "#/$defs/")].(map[string]any)
	}
	types, _ := node["type"].([]any)
	if depth == 0 || types == nil || r.IntN(8) == 0 {
		types = []any{"null", "boolean", "string", "integer", "number", "array", "object"}
		node = map[string]any{"additionalProperties": map[string]any{}}
	}
	if depth == 0 {
		types = types[:5]
	}
	switch pick(r, types) {
	case "object":
		return r.mapping(node, depth-1)
	case "array":
		items, _ := node["items"].(map[string]any)
		list := make([]any, r.IntN(5))
		for i := range list {
			list[i] = r.value(items, depth-1)
		}
		return list
	case "boolean":
		return r.IntN(2) == 0
	case "string":
		return pick(r, []string{"", "text", "5s", "1h1.5m", "-.5us", "0", "+0", "5", "5 s", ".s", "1.h", "µs", "3µs", "10000000000h",
			"2020-01-02T03:04:05Z", "127.0.0.1", "::1", "true", "null", "debug"})
	case "integer":
		return pick(r, []any{0, 1, -1, 127, 128, 255, 256, 65535, 65536, 1 << 40, -1 << 63, 1<<63 - 1, uint64(1<<64 - 1)})
	case "number":
		return pick(r, []float64{0.5, 5.0, 1e30, -1e300, 1e39, 1 << 53})
	}
	return nil
}

func (r random) mapping(node map[string]any, depth int) map[string]any {
	m := map[string]any{}
	properties, _ := node["properties"].(map[string]any)
	others, open := node["additionalProperties"].(map[string]any)
	for range r.IntN(3) {
		switch names := slices.Sorted(maps.Keys(properties)); {
		case open || len(names) == 0 || r.IntN(12) == 0:
			m[pick(r, []string{"x", "Tag", "hidden"})] = r.value(others, depth)
		default:
			name := pick(r, names)
			m[name] = r.value(properties[name].(map[string]any), depth)
		}
	}
	return m
}

// TestSchemaAndAgentsAgree: a schema that is stricter than the agents keeps
// good documents from a fleet, one that is laxer lets bad ones out to it.
func TestSchemaAndAgentsAgree(t *testing.T) {
	seed := rand.Uint64()
	for _, s := range subjects(t) {
		r := random{rand.New(rand.NewPCG(seed, 1)), s.root}
		accepted := 0
		for range 2000 {
			document, err := json.Marshal(r.mapping(s.root, 4))
			if err != nil {
				t.Fatal(err)
			}
			if s.agree(t, document); t.Failed() {
				t.Fatalf("seed %d", seed)
			}
			if s.check(document) == nil {
				accepted++
			}
		}
		if accepted < 300 || accepted > 1700 {
			t.Errorf("%s: %d of 2000 documents were good: of the others the test says little", s.name, accepted)
		}
	}
}

// TestEdgesOfTypes are the documents that a rule is about.
func TestEdgesOfTypes(t *testing.T) {
	all := subjects(t)
	for _, document := range []string{
		"single: .nan", "single: .inf", "tag: .nan", "double: -.inf", "wide: 9223372036854775808", "whole: 18446744073709551615",
		"wait: 0", "wait: 0.0", "wait: -0", "waits: null", "until: {}", "until: 2020-01-02T03:04:05Z", "three: [1, 2, 3, 4]", "three: [1]",
		"list: [null, {n: null}]", "entries: {a: null}", "func: null", "func: x", "hidden: 1", "flag: true", "in: {flag: true}", "ptr: {}", "ptr: []",
		"name: x\nnext: {next: {name: y, byname: {a: {children: [{x: 1}]}}}}", "a: {n: 1}", "a: {n: 1, m: 2}", "{}",
		"plugins: {a: {enabled: false, settings: {x: [1, {}]}}}", "tag: !!float 5", "tag: 0x10", "wait: 1_000",
	} {
		for _, s := range all {
			s.agree(t, []byte(document))
		}
	}
}

// TestFaultsNamePathLineAndColumn and never what was found there: it may be a
// password.
func TestFaultsNamePathLineAndColumn(t *testing.T) {
	s := subjects(t)[0]
	parsed, err := config.Parse([]byte(
		"tag: 70000\nlist:\n  - {n: 1}\n  - {m: 1, s: 5}\npassword: [hunter2]\nwait: 5\nwaits: soon\nthree: [1, 2, 3, 4]\ntypo: 1\nsingle: secret-text\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range s.with.Check(parsed) {
		fmt.Fprintln(&got, f)
	}
	want := `line 1, column 1: tag: the number does not fit: want at most 65535
line 4, column 6: unknown field list[1].m: no such setting here; check the spelling, or remove it
line 4, column 12: list[1].s: want text, found a number
line 5, column 1: password: want text, found a list
line 6, column 1: wait: want a duration with its unit, such as 5s or 1m30s, found a bare number
line 7, column 1: waits: want a duration with its unit, such as 5s or 1m30s
line 8, column 1: three: want at most 3 items, found 4
line 9, column 1: unknown field typo: no such setting here; check the spelling, or remove it
line 10, column 1: single: want a number, found text
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

// TestHostileSchemaReadsNothing: whoever may register must not have operators'
// files read, nor keep their commands busy.
func TestHostileSchemaReadsNothing(t *testing.T) {
	var forks strings.Builder
	for i := range 60 {
		fmt.Fprintf(&forks, `"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, i+1, i+1)
	}
	for name, data := range map[string]string{
		"a file":     `{"schema":1,"properties":{"a":{"$ref":"file:///etc/passwd"}}}`,
		"a dialect":  `{"schema":1,"$schema":"file:///etc/passwd"}`,
		"a circle":   `{"schema":1,"properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"$ref":"#/$defs/x"}}}`,
		"a nothing":  `{"schema":1,"properties":{"a":{"$ref":"#/$defs/x"}}}`,
		"a null":     `{"schema":1,"properties":{"a":null}}`,
		"a pattern":  `{"schema":1,"properties":{"a":{"pattern":"("}}}`,
		"many forks": `{"schema":1,"allOf":[{"$ref":"#/$defs/d0"}],"$defs":{` + forks.String() + `"d60":{}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			schema, err := config.ParseSchema([]byte(data))
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := config.Parse([]byte("a: 1"))
			if err != nil {
				t.Fatal(err)
			}
			merged, err := config.MergeDocuments(config.Document{Data: []byte("a: 1")})
			if err != nil {
				t.Fatal(err)
			}
			checker, err := schemacheck.New(schema)
			if err == nil {
				_ = checker.Check(parsed)
			} else if strings.Contains(err.Error(), "root:") {
				t.Error(err)
			}
			_ = merged.Fields(schema, config.Redaction{Schemas: []*config.Schema{schema}})
		})
	}
}

// FuzzSchemaAgreesWithAgents is TestSchemaAndAgentsAgree for whatever text.
func FuzzSchemaAgreesWithAgents(f *testing.F) {
	for _, s := range []string{"{}", "tag: 1", "list: [{n: 1}]", "wait: 5s", `{"any": [1]}`, "a: &x {n: 1}\nb: *x", "next: {<<: {name: x}}", "single: .nan"} {
		f.Add([]byte(s))
	}
	all := subjects(f)
	f.Fuzz(func(t *testing.T, document []byte) {
		for _, s := range all {
			s.agree(t, document)
		}
	})
}
