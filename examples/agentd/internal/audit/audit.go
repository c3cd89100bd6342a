package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Config says what is audited and how.
type Config struct {
	// Paths are files and directories. At least one is wanted.
	Paths []string
	// Exclude are patterns as of path.Match over the path below the one
	// given, or over any one element of it: examples/*, testdata, *.tmpl.yaml.
	Exclude []string
	// Ignore are rules that are not looked for.
	Ignore []string
	// Tools and Env are programs and variables that every script may use.
	Tools, Env []string
	// RequireTag makes it an error if the git tree is not exactly at the tag
	// of a version, without changes.
	RequireTag bool
	// Progress, if it is set, is called before each file is looked at, with
	// how many were before it.
	Progress func(files int, path string)
}

// ErrPath is of a path that is not there, or of no use.
var ErrPath = errors.New("nothing to audit there")

// Audit reads and judges. It may be used several times, also at the same time.
type Audit struct {
	cfg    Config
	ignore map[string]bool
	rules  map[string]Rule
	tools  map[string]bool
	env    map[string]bool
}

// New returns an audit. Nothing is read yet. It refuses a configuration
// without paths, with rules that do not exist, or with bad patterns.
func New(cfg Config) (*Audit, error) {
	cfg.Paths, cfg.Exclude = slices.Clone(cfg.Paths), slices.Clone(cfg.Exclude)
	if len(cfg.Paths) == 0 {
		return nil, errors.New("an audit wants at least one path")
	}
	if err := checkRules(cfg.Ignore); err != nil {
		return nil, err
	}
	for _, pattern := range cfg.Exclude {
		if _, err := path.Match(pattern, "x"); err != nil {
			return nil, fmt.Errorf("pattern %q: %w: want one such as testdata or examples/*.yaml", pattern, err)
		}
	}
	a := &Audit{cfg: cfg, ignore: map[string]bool{}, rules: knownRules(), tools: baseTools(), env: baseVariables()}
	for _, id := range cfg.Ignore {
		a.ignore[id] = true
	}
	for _, name := range cfg.Tools {
		a.tools[name] = true
	}
	for _, name := range cfg.Env {
		a.env[name] = true
	}
	return a, nil
}

// Run reads all paths. An error means that there is no verdict: a path that is
// not there, a tree that is too large, or ctx. What could not be read is told by
// Report.Incomplete, and the rest is judged.
func (a *Audit) Run(ctx context.Context) (*Report, error) {
	report := &Report{Schema: 1}
	for _, p := range a.cfg.Paths {
		if err := a.path(ctx, p, report); err != nil {
			return nil, err
		}
	}
	report.settle()
	return report, nil
}

// path audits one path that was given.
func (a *Audit) path(ctx context.Context, given string, report *Report) error {
	info, err := os.Stat(given)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPath, err)
	}
	dir, only := given, ""
	if !info.IsDir() {
		dir, only = filepath.Split(filepath.Clean(given))
		if dir == "" {
			dir = "."
		}
	}
	t, err := openTree(dir, a.cfg.Exclude)
	if err != nil {
		report.fail(filepath.ToSlash(given), err)
		return nil
	}
	defer t.close()
	run := &run{Audit: a, tree: t, report: report}
	if only != "" {
		if err := run.file(only, true); err != nil || !a.cfg.RequireTag {
			return err
		}
		return run.git(ctx, dir)
	}
	if err := t.walk(ctx, report, func(name string) error { return run.file(name, false) }); err != nil {
		return err
	}
	return run.git(ctx, given)
}

// run is the audit of one tree.
type run struct {
	*Audit
	tree   *tree
	report *Report
	seen   int // files that were looked at
}

// file judges one file if it is of a kind that is known. The name of one that was
// named must be of one, and what its content is not is told.
func (r *run) file(name string, named bool) error {
	if r.cfg.Progress != nil {
		r.cfg.Progress(r.seen, r.tree.shown(name))
	}
	r.seen++
	k := kindOf(r.tree.whole(name))
	if k == nil && path.Ext(name) == "" {
		script, err := r.tree.hasShebang(name)
		if err != nil && !errors.Is(err, errUnfit) { // it need not be a script
			r.report.leave(r.tree.shown(name), err.Error())
		}
		if script {
			k = &kind{limit: maxScript, judge: (*source).script}
		}
	}
	if k == nil {
		if named {
			return fmt.Errorf("%w: %s: nothing is known of files with such a name: want YAML, a Dockerfile, a shell script or a manifest of packages", ErrPath, r.tree.shown(name))
		}
		return nil
	}
	raw, err := r.tree.read(name, k.limit)
	switch {
	case errors.Is(err, errUnfit):
		if !r.ignore[fileUnread] {
			s := &source{run: r, name: name}
			s.report(fileUnread, position{}, "was not judged: %v", err)
		}
		return nil
	case err != nil:
		r.report.fail(r.tree.shown(name), err)
		return nil
	}
	s := newSource(r, name, raw)
	before := len(r.report.Findings)
	switch {
	case k.judge(s):
		r.report.Files++
	case named && len(r.report.Findings) == before:
		if !slices.ContainsFunc(r.report.Unread, func(u Unread) bool { return u.Path == r.tree.shown(name) }) {
			r.report.leave(r.tree.shown(name), "its content is of no kind that is known, such as that of Kubernetes or Compose")
		}
	}
	s.suppress(before)
	return nil
}

// kind is a sort of file: how large one may be, and what judges it. judge
// tells whether the file was one of that sort.
type kind struct {
	limit int64
	judge func(*source) bool
}

// Limits of what is read, in bytes.
const (
	maxDocument = 4 << 20
	maxScript   = 256 << 10
	maxLock     = 32 << 20
)

// kindOf tells by the whole name what a file is, nil if it is nothing that is
// known: ci.yml is a workflow also where .github/workflows is what was given.
func kindOf(name string) *kind {
	base := path.Base(name)
	lower := strings.ToLower(base)
	if judge := lockKind(base); judge != nil {
		return &kind{maxDocument, judge}
	}
	switch {
	case isDockerfile(base):
		return &kind{maxDocument, (*source).dockerfile}
	case strings.HasSuffix(lower, ".yaml"), strings.HasSuffix(lower, ".yml"):
		if judge := pipelineKind(name); judge != nil {
			return &kind{maxDocument, judge}
		}
		return &kind{maxDocument, (*source).manifest}
	case base == "Kustomization":
		return &kind{maxDocument, (*source).manifest}
	case strings.HasSuffix(lower, ".json"):
		return &kind{maxDocument, (*source).jsonManifest}
	case strings.HasSuffix(lower, ".sh"), strings.HasSuffix(lower, ".bash"):
		return &kind{maxScript, (*source).script}
	}
	return nil
}

// isDockerfile takes Dockerfile, Dockerfile.web and web.Dockerfile, and not
// dockerfile.go.
func isDockerfile(base string) bool {
	lower := strings.ToLower(base)
	switch {
	case strings.HasSuffix(lower, ".dockerignore"), strings.HasSuffix(lower, ".md"):
		return false
	case lower == "dockerfile", lower == "containerfile":
		return true
	}
	return strings.HasPrefix(base, "Dockerfile.") || strings.HasPrefix(base, "Containerfile.") ||
		strings.HasSuffix(lower, ".dockerfile") || strings.HasSuffix(lower, ".containerfile")
}
