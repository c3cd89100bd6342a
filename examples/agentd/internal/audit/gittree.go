package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// git checks that the tree is exactly at the tag of a version.
func (r *run) git(ctx context.Context, given string) error {
	s := &source{run: r, name: "."}
	level := func(rule string) Level {
		if r.cfg.RequireTag {
			return Error
		}
		return r.rules[rule].Level
	}
	unread := func(err error) {
		s.reportAs(level(fileUnread), fileUnread, position{}, "the git repository was not judged: %v", err)
	}
	repo, err := findRepository(given)
	if err != nil {
		unread(err)
		return nil //nolint:nilerr // it is reported, and the rest is judged
	}
	if repo == nil {
		if r.cfg.RequireTag {
			s.reportAs(Error, gitNotAtTag, position{}, "is in no git repository: a tag is required")
		}
		return nil
	}
	state, err := repo.state(ctx, given)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		unread(err)
		return nil
	}
	if len(state.tags) == 0 {
		s.reportAs(level(gitNotAtTag), gitNotAtTag, position{}, "commit %.12s has no tag of an exact version: tag what is released, such as git tag v1.2.3", state.commit)
	}
	if len(state.tags) > 1 {
		s.reportAs(level(gitNotAtTag), gitNotAtTag, position{}, "commit %.12s has the tags of %d versions (%.100s): one commit is to be one version", state.commit, len(state.tags), strings.Join(state.tags, ", "))
	}
	if state.changed != "" {
		s.reportAs(level(gitDirty), gitDirty, position{}, "has changes that no commit holds (%.100s): commit them", state.changed)
	}
	return nil
}

// repository is where git keeps a tree's data.
type repository struct {
	dir    string // of this working tree
	common string // what all working trees share
	top    string // of the working tree
}

// gitState is what the check is about.
type gitState struct {
	commit  string
	tags    []string
	changed string // the first change, empty if there is none
}

// Limits of what is read of git's files, in bytes.
const (
	maxGitFile  = 4 << 10
	maxRefs     = 32 << 20
	maxGitIndex = 256 << 20
)

// findRepository looks for the repository upwards from dir, as git does; nil
// if there is none.
func findRepository(dir string) (*repository, error) {
	top, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for {
		path := filepath.Join(top, ".git")
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			return newRepository(path, top)
		case err == nil:
			line, err := small(path)
			if err != nil {
				return nil, err
			}
			to, ok := strings.CutPrefix(line, "gitdir: ")
			if !ok {
				return nil, fmt.Errorf("%s: want gitdir: and a path, found %.100q", path, line)
			}
			return newRepository(absolute(top, to), top)
		}
		above := filepath.Dir(top)
		if above == top {
			return nil, nil //nolint:nilnil // none is no error
		}
		top = above
	}
}

func newRepository(dir, top string) (*repository, error) {
	r := &repository{dir: dir, common: dir, top: top}
	line, err := small(filepath.Join(dir, "commondir"))
	switch {
	case err == nil:
		r.common = absolute(dir, line)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return r, nil
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// small reads a file of one line.
func small(path string) (string, error) {
	raw, err := bounded(path, maxGitFile)
	return strings.TrimSpace(string(raw)), err
}

func bounded(path string, limit int64) ([]byte, error) {
	f, err := regular(os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return raw, err
}

// state asks git. It is given a directory of its own with the commit, the tags
// and a copy of the index: the repository's configuration can name programs
// that git would run (filters, a file system monitor, hooks), and is not
// read.
func (r *repository) state(ctx context.Context, dir string) (state gitState, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	shadow, err := os.MkdirTemp("", "agentd-audit-*")
	if err != nil {
		return gitState{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(shadow)) }()
	if state.commit, err = r.shadow(ctx, shadow); err != nil {
		return gitState{}, err
	}
	tags, err := r.run(ctx, shadow, dir, "for-each-ref", "--points-at=HEAD", "--format=%(refname:strip=2)", "refs/tags")
	if err != nil {
		return gitState{}, err
	}
	state.tags = strings.Fields(tags)
	changes, err := r.run(ctx, shadow, dir, "status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=all", "--", ".")
	if err != nil {
		return gitState{}, err
	}
	first, _, _ := strings.Cut(changes, "\n")
	state.changed = strings.TrimSpace(first)
	return state, nil
}

// shadow fills the directory and returns the commit.
func (r *repository) shadow(ctx context.Context, dir string) (commit string, err error) {
	packed, err := bounded(filepath.Join(r.common, "packed-refs"), maxRefs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	refs := map[string]string{}
	for line := range strings.Lines(string(packed)) {
		if id, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && objectID(id) {
			refs[name] = id
		}
	}
	if commit, err = r.head(refs); err != nil {
		return "", err
	}
	files := map[string]string{"HEAD": commit + "\n", "packed-refs": r.versionTags(refs), "config": r.settings(ctx)}
	for _, d := range []string{"refs", "objects", "info"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return "", err
		}
	}
	for from, to := range map[string]string{filepath.Join(r.dir, "index"): "index", filepath.Join(r.common, "info", "exclude"): "info/exclude"} {
		raw, err := bounded(from, maxGitIndex)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		files[to] = string(raw)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	return commit, r.aged(filepath.Join(dir, "index"))
}

// aged gives the copy of the index the age of the index: a file that was changed in
// the second in which that was written, and kept its size, git knows by this alone.
func (r *repository) aged(index string) error {
	info, err := os.Stat(filepath.Join(r.dir, "index"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chtimes(index, time.Time{}, info.ModTime())
}

// head returns the commit that is checked out.
func (r *repository) head(refs map[string]string) (string, error) {
	line, err := small(filepath.Join(r.dir, "HEAD"))
	if err != nil {
		return "", err
	}
	name, symbolic := strings.CutPrefix(line, "ref: ")
	if symbolic {
		if !filepath.IsLocal(name) || !strings.HasPrefix(name, "refs/") {
			return "", fmt.Errorf("HEAD is %.100q: want a commit or a branch", line)
		}
		line, err = small(filepath.Join(r.common, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			line, err = refs[name], nil
		}
		if err != nil {
			return "", err
		}
	}
	if !objectID(line) {
		return "", errors.New("there is no commit yet")
	}
	return line, nil
}

// maxTags bounds how many loose tags are read.
const maxTags = 10_000

// versionTags returns, in the form of packed-refs, the tags that are named
// after an exact version, with or without a leading v.
func (r *repository) versionTags(refs map[string]string) string {
	tags := map[string]string{}
	add := func(tag, id string) {
		if _, err := release.ParseVersion(strings.TrimPrefix(tag, "v")); err == nil && objectID(id) {
			tags[tag] = id
		}
	}
	for name, id := range refs {
		if tag, ok := strings.CutPrefix(name, "refs/tags/"); ok {
			add(tag, id)
		}
	}
	dir := filepath.Join(r.common, "refs", "tags")
	if entries, err := os.ReadDir(dir); err == nil {
		for _, e := range entries[:min(len(entries), maxTags)] {
			if e.Type().IsRegular() {
				if id, err := small(filepath.Join(dir, e.Name())); err == nil {
					add(e.Name(), id)
				}
			}
		}
	}
	var b strings.Builder
	for tag, id := range tags {
		fmt.Fprintf(&b, "%s refs/tags/%s\n", id, tag)
	}
	return b.String()
}

// settings returns a configuration with what of the repository's says how
// files are compared, and with nothing that could name a program.
func (r *repository) settings(ctx context.Context) string {
	format, version := "", 0
	var b strings.Builder
	for _, key := range []string{"filemode", "symlinks", "ignorecase", "precomposeunicode"} {
		if value := r.setting(ctx, "--type=bool", "core."+key); value == "true" || value == "false" {
			fmt.Fprintf(&b, "\t%s = %s\n", key, value)
		}
	}
	if value := r.setting(ctx, "--type=bool-or-str", "core.autocrlf"); value == "true" || value == "false" || value == "input" {
		fmt.Fprintf(&b, "\tautocrlf = %s\n", value)
	}
	if r.setting(ctx, "--no-type", "extensions.objectformat") == "sha256" {
		version, format = 1, "[extensions]\n\tobjectformat = sha256\n"
	}
	return fmt.Sprintf("[core]\n\trepositoryformatversion = %d\n\tfsmonitor = false\n%s%s", version, b.String(), format)
}

// setting reads one value of the repository's configuration as a file.
func (r *repository) setting(ctx context.Context, kind, key string) string {
	out, err := git(ctx, os.TempDir(), nil, "config", "--no-includes", "--file", filepath.Join(r.common, "config"), kind, "--get", key)
	if err != nil {
		return ""
	}
	return out
}

func objectID(s string) bool { return (len(s) == 40 || len(s) == 64) && hexadecimal(s) }

// run runs git over the shadow.
func (r *repository) run(ctx context.Context, shadow, dir string, args ...string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return git(ctx, dir, []string{
		"GIT_DIR=" + shadow, "GIT_WORK_TREE=" + r.top, "GIT_OBJECT_DIRECTORY=" + filepath.Join(r.common, "objects"),
	}, args...)
}

// git runs git without any configuration but that of env's GIT_DIR.
func git(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	// Interrupted, git ends the helper that speaks to a server too. What of it
	// does not end holds its output open, which is not waited for.
	cmd.Cancel = func() error {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			return cmd.Process.Kill()
		}
		return nil
	}
	cmd.WaitDelay = time.Second
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GIT_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_ALLOW_PROTOCOL=", "GIT_NO_LAZY_FETCH=1", "GIT_TERMINAL_PROMPT=0", "GIT_ATTR_NOSYSTEM=1")
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", errors.New("git is not installed")
		}
		why, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		for len(args) > 2 && args[0] == "-c" {
			args = args[2:]
		}
		return "", fmt.Errorf("git %s: %w: %.300s", args[0], err, why)
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}
