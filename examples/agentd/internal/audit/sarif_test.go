package audit

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestSARIFIsWhatTheStandardWants(t *testing.T) {
	dir := write(t, map[string]string{
		"Dockerfile": "FROM nginx # agentd-audit: ignore image-tag-missing for the \"tutorial\"\nFROM redis\n", "my file.sh": "if (\n",
	})
	if err := os.Symlink("Dockerfile", dir+"/link"); err != nil {
		t.Skip(err)
	}
	report := judge(t, dir, Config{})
	raw, err := json.Marshal(report.SARIF("1.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	schema := compileSARIF(t)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(document); err != nil {
		t.Errorf("%v\n%s", err, raw)
	}
	for _, want := range []string{`"suppressions":[{"kind":"inSource","justification":"for the \"tutorial\""}]`, "/my%20file.sh", `"startLine":2,"startColumn":6`, "symbolic link", `"level":"error"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("want %s in %s", want, raw)
		}
	}
	// The schema is not one that takes anything.
	broken, err := jsonschema.UnmarshalJSON(strings.NewReader(strings.Replace(string(raw), `"startLine":2`, `"startLine":0`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if schema.Validate(broken) == nil {
		t.Error("the schema takes line 0")
	}
}

// TestTheSameAtTwoPlacesIsTwoResults: code scanning takes one fingerprint for one.
func TestTheSameAtTwoPlacesIsTwoResults(t *testing.T) {
	dir := write(t, map[string]string{"Dockerfile": "FROM nginx\nFROM nginx\n"})
	raw, err := json.Marshal(judge(t, dir, Config{}).SARIF(""))
	if err != nil {
		t.Fatal(err)
	}
	prints := regexp.MustCompile(`"agentdAudit/v1":"[0-9a-f]{64}"`).FindAllString(string(raw), -1)
	if len(prints) != 2 || prints[0] == prints[1] {
		t.Errorf("%q", prints)
	}
}

// compileSARIF reads the schema as OASIS published it.
func compileSARIF(t *testing.T) *jsonschema.Schema {
	t.Helper()
	raw, err := os.ReadFile("testdata/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sarif.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
