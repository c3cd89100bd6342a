package audit

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// fuzzed are names of files, one of each kind, and the locks that belong to
// them.
func fuzzed() [][]string {
	return [][]string{
		{"pod.yaml"}, {"compose.yaml"}, {"Dockerfile"}, {".github/workflows/x.yml"}, {".gitlab-ci.yml"}, {".circleci/config.yml"},
		{".drone.yml"}, {"a.sh", "lib.sh"}, {"pod.json"}, {"values.yaml"}, {"package.json", "package-lock.json"},
		{"package.json", "yarn.lock"}, {"package.json", "pnpm-lock.yaml"}, {"go.mod", "go.sum"}, {"Cargo.toml", "Cargo.lock"},
		{"pyproject.toml", "uv.lock"}, {"requirements.txt", "requirements.in"}, {"Pipfile", "Pipfile.lock"},
		{"Gemfile", "Gemfile.lock"}, {"composer.json", "composer.lock"}, {"Chart.yaml", "Chart.lock"},
		{"package.json", "bun.lock"},
	}
}

// FuzzJudge gives any bytes to any judge, and any lock beside it. What is found
// must be in the file, and what would be fixed must be an image there.
func FuzzJudge(f *testing.F) {
	for _, s := range slices.Concat(imageScenarios(), pipelineScenarios(), scriptScenarios(), lockScenarios(), suppressionScenarios()) {
		for kind, names := range fuzzed() {
			content, ok := s.files[names[0]]
			if lock := s.files[names[len(names)-1]]; ok && (len(names) == 1 || lock != "") {
				f.Add(kind, content, lock)
			}
		}
	}
	base := f.TempDir()
	for kind := range fuzzed() {
		if err := os.Mkdir(filepath.Join(base, strconv.Itoa(kind)), 0o700); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, kind int, content, lock string) {
		if kind < 0 || kind >= len(fuzzed()) {
			return
		}
		names := fuzzed()[kind]
		dir := filepath.Join(base, strconv.Itoa(kind))
		if len(names) > 1 {
			if err := os.WriteFile(filepath.Join(dir, names[1]), []byte(lock), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, finding := range judgeText(t, dir, names[0], content) {
			if finding.Line < 0 || finding.Line > strings.Count(content, "\n")+2 || finding.Column < 0 {
				t.Errorf("%s stands at line %d, column %d of %q", finding.Rule, finding.Line, finding.Column, content)
			}
			e := finding.edit
			if e == nil {
				continue
			}
			if !strings.HasPrefix(content[e.offset:], e.old) {
				t.Errorf("%q is to be replaced at %d of %q", e.old, e.offset, content)
			}
			if _, err := parseReference(e.replacement(someDigest)); err != nil && e.ask.action == "" {
				t.Errorf("the fix of %q would be no image: %v", e.old, err)
			}
		}
	})
}

// judgeText judges a file that is not there, in a tree that is.
func judgeText(t *testing.T, dir, name, content string) []Finding {
	a, err := New(Config{Paths: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := openTree(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.close()
	report := &Report{}
	s := newSource(&run{Audit: a, tree: tree, report: report}, name, []byte(content))
	kindOf(name).judge(s)
	s.suppress(0)
	report.settle()
	return report.Findings
}

// TestLinesThatOnlyYAMLKnowsAreNotFixedAtAnotherPlace: what is told of one place
// would be written at another.
func TestLinesThatOnlyYAMLKnowsAreNotFixedAtAnotherPlace(t *testing.T) {
	for _, odd := range []string{"\r", "\u0085", "\u2028"} {
		content := "#" + odd + "#" + odd + "#\nservices:\n  a:\n    image: nginx:1.2.3\n  b:\n    image: nginx:1.2.3\n"
		for _, f := range judgeText(t, t.TempDir(), "compose.yaml", content) {
			if f.edit != nil {
				t.Errorf("%q: line %d would be fixed at byte %d", odd, f.Line, f.edit.offset)
			}
		}
	}
}

// FuzzReference: what is read as a reference and written again is the same
// reference.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"nginx", "a/b:1", "localhost:5000/x", "r.example.com/a/b:v1.2.3@" + someDigest, "a:b:c", "@", "/", "index.docker.io/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseReference(s)
		if err != nil {
			return
		}
		again, err := parseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, which is written %q and read %+v, %v", s, r, r.String(), again, err)
		}
		if moving(r.tag) == "" && r.tag != "" && !strings.ContainsAny(r.tag, "0123456789") {
			t.Errorf("tag %q of no number is taken to be exact", r.tag)
		}
	})
}
