package archtest

import (
	"path"
	"slices"
	"strings"
)

// mayImport says for each place which others its packages may import. A place
// is the first element of a package's directory, "." for the root itself,
// where only the documentation's tests live.
//
//nolint:gochecknoglobals // the table is the rule; nothing writes to it
var mayImport = map[string][]string{
	"examples": {"agent", "upgrade", "config", "plugin", "health"},
	"agent":    {"upgrade", "config", "plugin", "health", "internal"},
	"upgrade":  {"internal"},
	"config":   {"internal"},
	"plugin":   {"internal"},
	"health":   {"internal"},
	"internal": {},
	".":        {"agent", "upgrade", "config", "plugin", "health"},
}

// testOnly are packages that nothing but a test of the root module may
// import: they would reach the go.mod or the binary of every importer.
//
//nolint:gochecknoglobals // the table is the rule; nothing writes to it
var testOnly = []string{
	"go.etcd.io/etcd/server", "go.etcd.io/etcd/tests", "go.etcd.io/etcd/etcdctl", "go.etcd.io/raft", "go.etcd.io/bbolt",
	"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/spf13/viper",
	"github.com/urfave/cli", "github.com/alecthomas/kong", "github.com/alecthomas/kingpin", "github.com/jessevdk/go-flags",
	"github.com/stretchr/testify", "go.uber.org/goleak", "pgregory.net/rapid", "github.com/rogpeppe/go-internal",
	"github.com/google/go-cmp", "github.com/onsi/gomega", "github.com/onsi/ginkgo", "go.uber.org/mock",
}

// The benchmarks measure what the library is built of, each part beside the bare
// mechanism, and thousands of agents by their parts in one process; the simulated
// fleet is those agents.
const (
	benchmarks     = "examples/bench"
	simulatedFleet = "examples/fleetsim"
)

// place of a directory relative to the repository.
func place(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	return first
}

// within tells whether an import path is pkg or below it.
func within(imported, pkg string) bool {
	return imported == pkg || strings.HasPrefix(imported, pkg+"/")
}

// support tells whether dir is a package for tests, such as upgradetest.
func support(dir string) bool {
	return dir != "." && strings.HasSuffix(path.Base(dir), "test")
}

func (f File) check(imported string) (rule string) {
	from, isTest := place(path.Dir(f.Path)), strings.HasSuffix(f.Path, "_test.go")
	if !within(imported, Module) {
		return f.checkOutside(from, imported, isTest)
	}
	dir := strings.TrimPrefix(strings.TrimPrefix(imported, Module), "/")
	to := place(dir)
	switch {
	case support(dir) && !isTest && !support(path.Dir(f.Path)):
		return "a package for tests is for tests"
	case from == "." && !isTest:
		return "the root directory holds the tests of the documentation and no code"
	case to == from && from != ".":
		return ""
	case slices.Contains(mayImport[from], to):
		return ""
	case from == "examples" && to == "internal" && (isTest || within(path.Dir(f.Path), benchmarks) || within(path.Dir(f.Path), simulatedFleet)):
		return ""
	}
	return broken(from, to)
}

func broken(from, to string) string {
	siblings := []string{"upgrade", "config", "plugin", "health"}
	switch {
	case to == "":
		return "the root directory is no package to import"
	case to == "examples":
		return "the library knows nothing of its examples"
	case to == "agent":
		return "nothing but examples imports agent"
	case from == "examples" && to == "internal":
		return "examples use what users can use: outside of tests, no internal package of the library"
	case from == "internal":
		return "internal packages import no public one"
	case slices.Contains(siblings, from) && slices.Contains(siblings, to):
		return "upgrade, config, plugin and health never import one another: agent wires them"
	}
	return from + " may not import " + to
}

func (f File) checkOutside(from, imported string, isTest bool) (rule string) {
	if from == "examples" || isTest {
		return ""
	}
	for _, pkg := range testOnly {
		if within(imported, pkg) {
			return "only tests of the root module may import it: it belongs into the examples module"
		}
	}
	return ""
}
