package config_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/config"
)

func redaction(t testing.TB) config.Redaction {
	t.Helper()
	data, err := describedStore(t).Schema()
	if err != nil {
		t.Fatal(err)
	}
	s, err := config.ParseSchema(data)
	if err != nil {
		t.Fatal(err)
	}
	return config.Redaction{Schemas: []*config.Schema{s}}
}

// TestSecretsAreHiddenWhereverTheyAre and the rest stays as it was written.
func TestSecretsAreHiddenWhereverTheyAre(t *testing.T) {
	r := redaction(t)
	for name, c := range map[string]struct{ document, want string }{
		"nothing to hide": {"server: {port: 1}   # as is\n", "server: {port: 1}   # as is\n"},
		"a field":         {"# top\ndatabase:\n  password: hunter2 # mine\n  timeout: 5s\n", "# top\ndatabase:\n  password: \"(secret)\" # mine\n  timeout: 5s\n"},
		"JSON":            {`{"database": {"password": "hunter2"}}`, "{\"database\": {\"password\": \"(secret)\"}}\n"},
		"of type Secret":  {"database: {token: hunter2}", "database: {token: \"(secret)\"}\n"},
		"in a map":        {"databases: {x: {password: hunter2}}", "databases: {x: {password: \"(secret)\"}}\n"},
		"in recursion":    {"parent: {parent: {database: {password: hunter2}}}", "parent: {parent: {database: {password: \"(secret)\"}}}\n"},
		"of a wrong type": {"database: {password: [hunter2, {a: hunter3}]}", "database: {password: \"(secret)\"}\n"},
		"a number":        {"database: {password: 2}", "database: {password: \"(secret)\"}\n"},
		"null":            {"database: {password: null}", "database: {password: null}"},
		"unknown field":   {"databse: {password: hunter2}", "databse: \"(hidden)\"\n"},
		"through alias":   {"database: {password: &p hunter2}\nany: *p", "database: {password: &p \"(secret)\"}\nany: *p\n"},
		"from elsewhere":  {"any: &p hunter2\ndatabase: {password: *p}", "any: &p \"(secret)\"\ndatabase: {password: *p}\n"},
		"by merging":      {"any: &base {password: hunter2}\ndatabase: {<<: *base}", "any: &base {password: \"(secret)\"}\ndatabase: {<<: *base}\n"},
		"by merging many": {"any: [&a {timeout: 5s}, &b {password: hunter2}]\ndatabase: {<<: [*a, *b]}", "any: [&a {timeout: 5s}, &b {password: \"(secret)\"}]\ndatabase: {<<: [*a, *b]}\n"},
	} {
		got, err := r.Document([]byte(c.document))
		if err != nil || strings.TrimSuffix(string(got), "\n") != strings.TrimSuffix(c.want, "\n") {
			t.Errorf("%s:\n got %q, %v\nwant %q", name, got, err, c.want)
		}
	}
	if got, err := (config.Redaction{}).Document([]byte("a: hunter2\nb: [hunter2]\n")); err != nil || strings.Contains(string(got), "hunter") {
		t.Errorf("without a schema: %s, %v", got, err)
	}
	if got, err := r.Document([]byte("password: [hunter2")); err == nil || strings.Contains(err.Error(), "hunter") {
		t.Errorf("a damaged document: %s, %v", got, err)
	}
}

// TestHiddenValuesThatDifferAreToldApart only to those who see both.
func TestHiddenValuesThatDifferAreToldApart(t *testing.T) {
	r := redaction(t)
	hide := func(key, value string) string {
		r.Key = []byte(key)
		got, err := r.Document([]byte("database: {password: " + value + "}"))
		if err != nil || strings.Contains(string(got), value) {
			t.Errorf("%s, %v", got, err)
		}
		return string(got)
	}
	one := hide("key", "hunter2")
	if hide("key", "hunter2") != one || hide("key", "hunter3") == one || hide("other", "hunter2") == one {
		t.Errorf("tags of %s do not tell values apart", one)
	}
}

// FuzzRedact: no document may carry a secret past it, nor crash a command.
func FuzzRedact(f *testing.F) {
	for _, s := range []string{
		"database: {password: SECRET}", "a: &a SECRET\ndatabase: {token: *a}", "<<: {database: {password: SECRET}}", `{"databases":{"x":{"token":"SECRET"}}}`,
		"any: &x {password: SECRET}\ndatabase: *x", "parent: {<<: [{database: {password: SECRET}}]}", "database: {password: |\n  SECRET\n}", "unknown: SECRET",
	} {
		f.Add([]byte(s))
	}
	r := redaction(f)
	f.Fuzz(func(t *testing.T, document []byte) {
		shown, err := r.Document(document)
		if err != nil {
			return
		}
		_, _ = config.Redaction{}.Document(document)
		parsed, err := config.Parse(document)
		if err != nil {
			t.Fatal(err)
		}
		database, _ := parsed.Values()["database"].(map[string]any)
		if password, ok := database["password"].(string); ok && len(password) > 8 && !strings.Contains(password, "(secret)") &&
			bytes.Count(document, []byte(password)) == 1 && bytes.Contains(shown, []byte(password)) {
			t.Errorf("%q shows %q", document, shown)
		}
	})
}

// FuzzParseSchema: a schema comes from whoever may write below its prefix.
func FuzzParseSchema(f *testing.F) {
	data, err := describedStore(f).Schema(library())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	for _, s := range []string{
		`{"schema":1,"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}`, `{"schema":1,"properties":{"a":null}}`,
		`{"schema":1,"additionalProperties":{"additionalProperties":true}}`, `{"schema":1,"items":{"$ref":"x"}}`, `{"schema":2}`,
		`{"schema":1,"properties":{"a":{"$ref":"#/$defs/a","default":{"a":1}}},"$defs":{"a":{"properties":{"a":{"$ref":"#/$defs/a"}}}}}`,
	} {
		f.Add([]byte(s))
	}
	m, err := config.MergeDocuments(config.Document{Scope: "global", Revision: 1, Data: []byte("a: {a: {a: [1]}}\nserver: {port: 1}\nb: null")})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		s, err := config.ParseSchema(data)
		if err != nil {
			return
		}
		_ = m.Fields(s, config.Redaction{Schemas: []*config.Schema{s}})
	})
}
