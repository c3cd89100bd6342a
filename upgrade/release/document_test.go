package release

import (
	"strings"
	"testing"
)

const (
	goodDigest = "00000000000000000000000000000000000000000000000000000000000000aa"
	goodIndex  = `{"schema":1,"name":"agentd","sequence":1,"issued":"2030-01-01T00:00:00Z","expires":"2030-02-01T00:00:00Z",` +
		`"releases":[{"version":"1.0.0","manifest":"` + goodDigest + `","size":100}]}`
	goodManifest = `{"schema":1,"name":"agentd","version":"1.0.0","created":"2030-01-01T00:00:00Z","requires":{"upgrade":">=1.0.0"},` +
		`"platforms":[{"os":"linux","arch":"amd64","sha256":"` + goodDigest + `","size":100}]}`
)

// badDocuments are changes after which neither document may be read.
var badDocuments = []struct{ name, from, to, says string }{
	{"deep arrays in an unknown member", `{"schema"`, `{"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `,"schema"`, "nested deeper"},
	{"deep objects in an unknown member", `{"schema"`, `{"x":` + strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000) + `,"schema"`, "nested deeper"},
	{"never-closed arrays", `{"schema"`, `{"x":` + strings.Repeat("[", 100_000), "nested deeper"},
	{"member twice", `{"schema":1`, `{"schema":1,"name":"evil"`, "occurs twice"},
	{"member twice, other case", `{"schema":1`, `{"schema":1,"NAME":"evil"`, "occurs twice"},
	{"member twice, folding rune", `{"schema":1`, `{"schema":1,"ſize":1,"size":2`, "occurs twice"},
	{"newer schema", `"schema":1`, `"schema":2`, "reads up to 1"},
	{"no schema", `"schema":1`, `"schema_":1`, "no valid schema"},
	{"schema as text", `"schema":1`, `"schema":"1"`, "schema"},
	{"name with traversal", `"agentd"`, `"../../agentd"`, "name"},
	{"name with slash", `"agentd"`, `"a/b"`, "name"},
	{"empty name", `"agentd"`, `""`, "name"},
	{"name with newline", `"agentd"`, `"a\nb"`, "name"},
	{"floating version", `"1.0.0"`, `"latest"`, "not an exact version"},
	{"version with traversal", `"1.0.0"`, `"1.0.0/../../.."`, "not an exact version"},
	{"short digest", goodDigest, goodDigest[1:], "hexadecimal"},
	{"upper-case digest", goodDigest, strings.ToUpper(goodDigest), "hexadecimal"},
	{"digest with traversal", goodDigest, strings.Repeat("../", 21) + "a", "hexadecimal"},
	{"size zero", `"size":100`, `"size":0`, "size"},
	{"negative size", `"size":100`, `"size":-5`, "size"},
	{"size beyond any disk", `"size":100`, `"size":9223372036854775807`, "size"},
	{"size that overflows", `"size":100`, `"size":1e400`, "size"},
	{"time as text", `2030-01-01T00:00:00Z`, `yesterday`, "parsing time"},
	{"no time", `2030-01-01T00:00:00Z`, `0001-01-01T00:00:00Z`, ""},
	{"trailing document", `}]}`, `}]}{}`, "data after"},
	{"unfinished document", `}]}`, `}]`, "EOF"},
	{"array", `{"schema"`, `[{"schema"`, "not a JSON object"},
}

func TestBadDocumentIsRefused(t *testing.T) {
	for _, doc := range []struct {
		kind, good string
		parse      func([]byte) error
	}{
		{"index", goodIndex, func(b []byte) error { _, err := ParseIndex(b); return err }},
		{"manifest", goodManifest, func(b []byte) error { _, err := ParseManifest(b); return err }},
	} {
		if err := doc.parse([]byte(doc.good)); err != nil {
			t.Fatalf("%s: %v", doc.kind, err)
		}
		for _, tt := range badDocuments {
			t.Run(doc.kind+"/"+tt.name, func(t *testing.T) {
				text := strings.Replace(doc.good, tt.from, tt.to, 1)
				if text == doc.good {
					t.Fatal("the case changes nothing")
				}
				err := doc.parse([]byte(text))
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v, want an error that says %q", err, tt.says)
				}
				if err != nil && len(err.Error()) > 600 {
					t.Errorf("the error repeats the input: %d bytes", len(err.Error()))
				}
			})
		}
	}
}

func TestBadIndexIsRefused(t *testing.T) {
	entry := goodIndex[strings.Index(goodIndex, `{"version"`):strings.Index(goodIndex, `]}`)]
	for name, text := range map[string]string{
		"version twice":         strings.Replace(goodIndex, entry, entry+","+entry, 1),
		"sequence zero":         strings.Replace(goodIndex, `"sequence":1`, `"sequence":0`, 1),
		"sequence inexact":      strings.Replace(goodIndex, `"sequence":1`, `"sequence":9007199254740993`, 1),
		"expires before issued": strings.Replace(goodIndex, "2030-02-01", "2029-02-01", 1),
		"larger than the limit": goodIndex + strings.Repeat(" ", MaxIndexSize),
	} {
		if _, err := ParseIndex([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBadManifestIsRefused(t *testing.T) {
	platform := goodManifest[strings.Index(goodManifest, `{"os"`):strings.Index(goodManifest, `]}`)]
	for name, text := range map[string]string{
		"platform twice":          strings.Replace(goodManifest, platform, platform+","+platform, 1),
		"no platform":             strings.Replace(goodManifest, platform, "", 1),
		"platform with a path":    strings.Replace(goodManifest, `"linux"`, `"../linux"`, 1),
		"unreadable constraint":   strings.Replace(goodManifest, ">=1.0.0", "newest", 1),
		"constraint without end":  strings.Replace(goodManifest, ">=1.0.0", strings.Repeat(">=1.0.0 || ", 10_000)+"1", 1),
		"encoding without digest": strings.Replace(goodManifest, `"size":100`, `"size":100,"encodings":[{"format":"zstd","size":1}]`, 1),
		"encoding without size":   strings.Replace(goodManifest, `"size":100`, `"size":100,"encodings":[{"format":"zstd","sha256":"`+goodDigest+`"}]`, 1),
		"format with a path":      strings.Replace(goodManifest, `"size":100`, `"size":100,"encodings":[{"format":"../x","sha256":"`+goodDigest+`","size":1}]`, 1),
		"delta from nowhere":      strings.Replace(goodManifest, `"size":100`, `"size":100,"deltas":[{"format":"bsdiff","from":"x","sha256":"`+goodDigest+`","size":1}]`, 1),
		"more deltas than anyone makes": strings.Replace(goodManifest, `"size":100`, `"size":100,"deltas":[`+
			strings.Repeat(`{"format":"bsdiff","from":"`+goodDigest+`","sha256":"`+goodDigest+`","size":1},`, 64)+
			`{"format":"bsdiff","from":"`+goodDigest+`","sha256":"`+goodDigest+`","size":1}]`, 1),
		"larger than the limit": goodManifest + strings.Repeat(" ", MaxManifestSize),
	} {
		if _, err := ParseManifest([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestUnknownMembersAreIgnored(t *testing.T) {
	with := strings.Replace(goodManifest, `"size":100`, `"size":100,"encodings":[{"format":"brotli","sha256":"`+goodDigest+`","size":1,"level":9}],"signers":["x"]`, 1)
	if _, err := ParseManifest([]byte(with)); err != nil {
		t.Errorf("a manifest of a later release with another format: %v", err)
	}
	with = strings.Replace(goodIndex, `"size":100`, `"size":100,"channel":{"name":"x"}`, 1)
	if _, err := ParseIndex([]byte(with)); err != nil {
		t.Errorf("an index of a later release: %v", err)
	}
}
