package plugin_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/perennial-go/perennial/plugin"
)

const goodManifest = `schema: 1
name: probe
version: 1.2.3
sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
protocol: [1]
capabilities: [collect]
host: '>=1.0.0 <2.0.0'
required: true
settings:
  interval: 10s
`

func TestManifestIsReadWhole(t *testing.T) {
	m, err := plugin.ParseManifest([]byte(goodManifest))
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "probe" || m.Version != "1.2.3" || !m.Required || m.Settings["interval"] != "10s" || m.Capabilities[0] != "collect" {
		t.Errorf("found %+v", m)
	}
}

func TestManifestThatCannotBeTrustedIsRefused(t *testing.T) {
	with := func(old, replacement string) string { return strings.Replace(goodManifest, old, replacement, 1) }
	for name, c := range map[string]struct{ data, says string }{
		"empty":                      {"", "schema: want 1, found none"},
		"not YAML":                   {"\x00\x01", "not YAML"},
		"a list":                     {"- a\n- b\n", "want a mapping"},
		"no schema":                  {with("schema: 1\n", ""), "schema: want 1, found none"},
		"a newer schema":             {with("schema: 1", "schema: 2\nsandbox: full"), "schema: want 1, found 2"},
		"oversized":                  {goodManifest + "#" + strings.Repeat("x", 64<<10), "more than 65536 bytes"},
		"path traversal in the name": {with("name: probe", "name: ../../bin/sh"), `found "../../bin/sh"`},
		"absolute name":              {with("name: probe", "name: /bin/sh"), `found "/bin/sh"`},
		"upper-case name":            {with("name: probe", "name: Probe"), `found "Probe"`},
		"name with a newline":        {with("name: probe", `name: "a\nb"`), `found "a\nb"`},
		"name of 64":                 {with("name: probe", "name: "+strings.Repeat("a", 64)), "want 1 to 63"},
		"a path beside the name":     {with("name: probe", "name: probe\npath: /bin/sh"), "field path not found"},
		"floating version":           {with("version: 1.2.3", "version: latest"), `found "latest"`},
		"partial version":            {with("version: 1.2.3", "version: '1.2'"), `found "1.2"`},
		"version with v":             {with("version: 1.2.3", "version: v1.2.3"), `found "v1.2.3"`},
		"no digest":                  {with("sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n", ""), "sha256: want 64"},
		"short digest":               {with("b0f00a08", ""), "sha256: want 64"},
		"digest in capitals":         {with("9f86d081", "9F86D081"), "sha256: want 64"},
		"another protocol":           {with("protocol: [1]", "protocol: [2]"), "protocol: want a list with 1, found [2]"},
		"no capability":              {with("capabilities: [collect]", "capabilities: []"), "capabilities: want at least one"},
		"strange capability":         {with("capabilities: [collect]", "capabilities: ['a/b']"), `found "a/b"`},
		"bad host constraint":        {with(">=1.0.0 <2.0.0", "about 1"), "host: want a SemVer constraint"},
		"limit without a unit":       {goodManifest + "limits: {memory: 1000000}\n", `found "1000000"`},
		"limit in a strange unit":    {goodManifest + "limits: {memory: 1G}\n", `found "1G"`},
		"limit below nothing":        {goodManifest + "limits: {memory: -1MiB}\n", `found "-1MiB"`},
		"limit beyond counting":      {goodManifest + "limits: {memory: 9999999999999GiB}\n", `found "9999999999999GiB"`},
		"limit nothing can live in":  {goodManifest + "limits: {memory: 4KiB}\n", "at least 1MiB, found 4KiB"},
		"half a process":             {goodManifest + "limits: {processes: 0.5}\n", "want a whole number"},
		"fewer than no process":      {goodManifest + "limits: {processes: -1}\n", "processes: want 1 to"},
		"too few files":              {goodManifest + "limits: {files: 3}\n", "files: want 16 to"},
		"CPU that is no number":      {goodManifest + "limits: {cpu: .nan}\n", "cpu: want 0.01 to"},
		"negative CPU":               {goodManifest + "limits: {cpu: -1}\n", "cpu: want 0.01 to"},
		"unknown limit":              {goodManifest + "limits: {disk: 1GiB}\n", "field disk not found"},
		"unknown field":              {goodManifest + "privileged: true\n", "field privileged not found"},
		"a field twice":              {goodManifest + "name: other\n", "already defined"},
		"two documents":              {goodManifest + "---\n" + goodManifest, "one YAML document"},
		"alias bomb":                 {goodManifest + "  a: &a [x, x]\n  b: [*a, *a]\n", "aliases and anchors"},
		"merge key":                  {goodManifest + "  a: &a {x: 1}\n  b: {<<: *a}\n", "aliases and anchors"},
		"deep nesting":               {goodManifest + "  a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "\n", "nested deeper"},
		"settings beyond JSON":       {goodManifest + "  a: .nan\n", "what JSON can hold"},
		"settings with odd keys":     {goodManifest + "  a: {[1]: 2}\n", "manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := plugin.ParseManifest([]byte(c.data))
			if !errors.Is(err, plugin.ErrManifest) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want ErrManifest saying %q, found %v", c.says, err)
			}
		})
	}
}

// TestManifestsOfSchema1AreReadAndWrittenAsEver reads what the first version
// wrote: plugins that are installed must not need another manifest.
func TestManifestsOfSchema1AreReadAndWrittenAsEver(t *testing.T) {
	const digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	for file, want := range map[string]plugin.Manifest{
		"manifest-1": {
			Schema: 1, Name: "logtail", Version: "1.2.3-rc.1+build.7", SHA256: digest, Protocol: []int{1},
			Capabilities: []string{"collect", "tail.once"}, Host: ">=1.0.0 <2.0.0", Required: true,
			Settings: map[string]any{"paths": []any{"/var/log/*.log"}},
			Limits:   plugin.Limits{MemoryBytes: 256 << 20, CPU: 0.5, Processes: 64, Files: 1024},
		},
		"manifest-1-least": {Schema: 1, Name: "exec", Version: "1.0.0", SHA256: digest, Protocol: []int{1}, Capabilities: []string{"run"}},
	} {
		data, err := os.ReadFile(filepath.Join("testdata", file+plugin.ManifestSuffix))
		if err != nil {
			t.Fatal(err)
		}
		got, err := plugin.ParseManifest(data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: want %+v, found %+v, %v", file, want, got, err)
		}
		if again, err := yaml.Marshal(want); err != nil || string(again) != string(data) {
			t.Errorf("%s: want it written as\n%s\nfound\n%s\n%v", file, data, again, err)
		}
	}
}

func TestTemplateNeedsNoDigestYet(t *testing.T) {
	data := []byte(strings.Replace(goodManifest, "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n", "", 1))
	if m, err := plugin.ParseTemplate(data); err != nil || m.Name != "probe" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := plugin.ParseTemplate([]byte("schema: 1")); !errors.Is(err, plugin.ErrManifest) {
		t.Errorf("want ErrManifest, found %v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(goodManifest))
	f.Add([]byte("schema: 1\nname: [\n"))
	f.Add([]byte("&a [*a]"))
	f.Add([]byte(goodManifest + "limits: {memory: 256MiB, cpu: 0.5, processes: 64, files: 1024}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := plugin.ParseManifest(data)
		if err != nil {
			if !errors.Is(err, plugin.ErrManifest) {
				t.Fatalf("want ErrManifest, found %v", err)
			}
			return
		}
		if !plugin.ValidName(m.Name) || strings.ContainsAny(m.Name, "/.\\ \n") {
			t.Fatalf("name %q can leave the directory", m.Name)
		}
		again, err := yaml.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		same, err := plugin.ParseManifest(again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, again)
		}
		if same.Limits != m.Limits {
			t.Fatalf("limits %+v became %+v", m.Limits, same.Limits)
		}
	})
}
