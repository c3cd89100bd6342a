package archtest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const repository = "../.."

func TestImportsFollowTheArrows(t *testing.T) {
	files, err := Scan(repository)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		seen[place(f.Path)] = true
	}
	for _, want := range []string{"agent", "upgrade", "config", "plugin", "health", "internal", "examples"} {
		if !seen[want] {
			t.Errorf("no Go file of %s was read: the rules were applied to the wrong directory", want)
		}
	}
	for _, v := range Check(files) {
		t.Error(v)
	}
}

// write makes a tree of Go files, each given by the imports of it.
func write(t *testing.T, imports map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, list := range imports {
		text := "//go:build plan9\n\npackage p\n"
		for imported := range strings.FieldsSeq(list) {
			text += "import _ \"" + strings.Replace(imported, "~", Module, 1) + "\"\n"
		}
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestViolationIsCaught(t *testing.T) {
	for name, tc := range map[string]struct{ file, imports, want string }{
		"sibling imports sibling":                 {"health/a.go", "~/config", "never import one another"},
		"sibling imports below a sibling":         {"config/a.go", "~/plugin/pluginpb", "never import one another"},
		"below a sibling imports a sibling":       {"upgrade/rollout/a.go", "~/health", "never import one another"},
		"test of a sibling imports a sibling":     {"health/a_test.go", "~/config", "never import one another"},
		"one system's file alone":                 {"health/a_windows.go", "~/upgrade", "never import one another"},
		"sibling imports agent":                   {"plugin/a.go", "~/agent", "nothing but examples imports agent"},
		"test of a sibling imports agent":         {"plugin/a_test.go", "~/agent", "nothing but examples imports agent"},
		"internal imports agent":                  {"internal/etcdkv/a.go", "~/agent", "nothing but examples imports agent"},
		"internal imports public":                 {"internal/etcdkv/a.go", "~/config", "import no public one"},
		"test of internal imports public":         {"internal/etcdkv/a_test.go", "~/config", "import no public one"},
		"library imports examples":                {"agent/a.go", "~/examples/internal/etcdserver", "knows nothing of its examples"},
		"code in the root directory":              {"a.go", "~/agent", "no code"},
		"root directory imported":                 {"agent/a.go", "~", "no package to import"},
		"example imports internal":                {"examples/agentd/a.go", "~/internal/atomicfile", "no internal package of the library"},
		"code imports a package for tests":        {"config/a.go", "~/internal/etcdtest", "for tests"},
		"example imports a package for tests":     {"examples/agentd/a.go", "~/upgrade/upgradetest", "for tests"},
		"etcd server in the library":              {"agent/a.go", "go.etcd.io/etcd/server/v3/embed", "only tests"},
		"etcd server in a package for tests":      {"internal/etcdtest/a.go", "go.etcd.io/etcd/server/v3/embed", "only tests"},
		"command line framework in the library":   {"upgrade/a.go", "github.com/spf13/cobra", "only tests"},
		"test library in the library":             {"config/a.go", "github.com/stretchr/testify/require", "only tests"},
		"leak checker in the library":             {"config/a.go", "go.uber.org/goleak", "only tests"},
		"place that is not on the map":            {"util/a.go", "", "no rule names this place"},
		"place of that kind with an allowed name": {"healthy/a.go", "", "no rule names this place"},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := Scan(write(t, map[string]string{tc.file: tc.imports}))
			if err != nil {
				t.Fatal(err)
			}
			got := Check(files)
			if len(got) != 1 || got[0].File != tc.file || !strings.Contains(got[0].String(), tc.want) {
				t.Errorf("got %v, want one violation with %q", got, tc.want)
			}
		})
	}
}

func TestLawfulImportsPass(t *testing.T) {
	files, err := Scan(write(t, map[string]string{
		"agent/a.go":                         "~/upgrade ~/config ~/plugin ~/health ~/internal/etcdkv ~/upgrade/rollout go.etcd.io/etcd/client/v3",
		"agent/agenttest/a.go":               "~/agent ~/internal/etcdtest",
		"agent/a_test.go":                    "~/agent/agenttest ~/internal/etcdtest go.uber.org/goleak",
		"upgrade/rollout/a.go":               "~/upgrade ~/internal/backoff",
		"plugin/a.go":                        "~/plugin/pluginpb github.com/hashicorp/go-plugin",
		"health/a_test.go":                   "~/health github.com/google/go-cmp/cmp",
		"internal/etcdkv/a.go":               "~/internal/backoff",
		"internal/etcdkv/a_test.go":          "~/internal/etcdtest",
		"example_test.go":                    "~/agent ~/upgrade",
		"examples/agentd/a.go":               "~/agent ~/plugin/sdk ~/examples/internal/spool github.com/spf13/cobra go.etcd.io/etcd/server/v3/embed",
		"examples/agentd/a_test.go":          "~/internal/etcdtest",
		"examples/agentd/testdata/broken.go": "~/internal/atomicfile",
		"health/testdata/a.go":               "~/agent",
		".hidden/a.go":                       "~/agent",
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range Check(files) {
		t.Error(v)
	}
	if len(files) != 11 {
		t.Errorf("%d files were read, want 11", len(files))
	}
}

func TestUnreadableFileIsAnError(t *testing.T) {
	root := write(t, map[string]string{"health/a.go": ""})
	if err := os.WriteFile(filepath.Join(root, "health/a.go"), []byte("pakkage p"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Scan(root); err == nil {
		t.Error("a file that cannot be read was passed over")
	}
}

// direct lists what the root module may require itself beside golang.org/x,
// and what for. What is added here is added to docs/decisions.md too.
func direct() map[string]string {
	return map[string]string{
		"aead.dev/minisign":                    "release signatures",
		"github.com/Masterminds/semver/v3":     "versions and constraints",
		"github.com/cloudflare/tableflip":      "passing sockets to a successor",
		"github.com/coreos/go-systemd/v22":     "telling systemd",
		"github.com/fsnotify/fsnotify":         "being told of changes in the plugins directory",
		"github.com/go-jose/go-jose/v4":        "tokens of the admin listener",
		"github.com/go-viper/mapstructure/v2":  "strict decoding of configuration",
		"github.com/hashicorp/go-hclog":        "go-plugin's logger",
		"github.com/hashicorp/go-plugin":       "plugin processes",
		"github.com/dsnet/compress":            "bzip2, for publishers of bsdiff patches",
		"github.com/klauspost/compress":        "zstd",
		"github.com/minio/selfupdate":          "applying bsdiff patches",
		"github.com/prometheus/client_golang":  "metrics",
		"github.com/opencontainers/go-digest":  "oras-go's type of a digest",
		"github.com/opencontainers/image-spec": "the types of OCI manifests",
		"oras.land/oras-go/v2":                 "OCI registries",
		"go.etcd.io/etcd/api/v3":               "etcd's messages and errors",
		"go.etcd.io/etcd/client/v3":            "etcd",
		"go.opentelemetry.io/otel":             "traces: attributes, status codes and the traceparent",
		"go.opentelemetry.io/otel/trace":       "traces: the author's TracerProvider",
		"go.uber.org/goleak":                   "tests: goroutine leaks",
		"go.uber.org/zap":                      "silencing etcd's client",
		"go.yaml.in/yaml/v3":                   "configuration and plugin manifests",
		"google.golang.org/grpc":               "etcd's and the plugins' transport",
		"google.golang.org/protobuf":           "the plugins' messages",
	}
}

func TestGoModStaysLean(t *testing.T) {
	out := run(t, "go", "mod", "edit", "-json")
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Replace []any
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if len(mod.Require) == 0 {
		t.Fatalf("no requirement read from %s", out)
	}
	if len(mod.Replace) != 0 {
		t.Error("a replace directive holds for this repository alone: importers build something else")
	}
	allowed := direct()
	for _, r := range mod.Require {
		if !r.Indirect && allowed[r.Path] == "" && !strings.HasPrefix(r.Path, "golang.org/x/") {
			t.Errorf("%s is a new requirement: say in docs/decisions.md what it replaces, then name it here", r.Path)
		}
		for _, pkg := range testOnly {
			if within(r.Path, pkg) && allowed[r.Path] == "" {
				t.Errorf("%s reaches the go.mod of every importer: it belongs into the examples module", r.Path)
			}
		}
	}
}

// TestNothingHeavyIsLinkedIn looks past this repository: a library that is
// allowed could import one that is not.
func TestNothingHeavyIsLinkedIn(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		out := run(t, "env", "GOOS="+goos, "GOARCH=arm64", "go", "list", "-deps", "./...")
		seen := map[string]bool{}
		for dep := range strings.FieldsSeq(string(out)) {
			seen[dep] = true
			for _, pkg := range testOnly {
				if within(dep, pkg) {
					t.Errorf("on %s a package of the root module depends on %s", goos, dep)
				}
			}
		}
		if !seen[Module+"/agent"] {
			t.Errorf("on %s go list named no package agent among %d", goos, len(seen))
		}
	}
}

// TestRegistriesAreLinkedByWhoAsksForThem keeps the client of OCI registries
// out of agents that take their releases from elsewhere, and everything but
// the standard library out of the check of signatures.
func TestRegistriesAreLinkedByWhoAsksForThem(t *testing.T) {
	for pkg, without := range map[string]string{
		"./agent": "oras.land", "./upgrade": "oras.land", "./upgrade/release": "oras.land",
		"./upgrade/release/cosign": "aead.dev", "./upgrade/release/cosign/cosignkey": "oras.land",
	} {
		out := run(t, "go", "list", "-deps", pkg)
		for dep := range strings.FieldsSeq(string(out)) {
			if within(dep, without) {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
		if !strings.Contains(string(out), Module+strings.TrimPrefix(pkg, ".")+"\n") {
			t.Errorf("go list did not name %s itself", pkg)
		}
	}
}

// run runs a command in the root module, as one who imports it has it.
func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out
}
