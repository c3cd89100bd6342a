// Package gitversion derives the version of a release from the tags of a git
// repository, so that it says which commit it is of and sorts as people expect.
package gitversion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/perennial-go/perennial/upgrade/release"
)

// Errors that callers branch on.
var (
	// ErrDirty: the working tree has changes that no commit holds.
	ErrDirty = errors.New("the tree has uncommitted changes")
	// ErrNoTag: no tag names a version that leads to this commit.
	ErrNoTag = errors.New("no tag names a version")
)

// Repository is a git repository whose tags v1.2.3 name versions.
type Repository struct {
	// Dir is a directory of the working tree; empty is the current one.
	Dir string
	// AllowDirty takes a tree with uncommitted changes, and marks its version.
	AllowDirty bool
}

// Version is what a working tree is to be called.
type Version struct {
	// Version is exact SemVer without a leading v:
	//
	//	1.4.2                        at the tag v1.4.2
	//	1.4.3-dev.7+g0123456789ab    7 commits after it
	//	1.5.0-rc.1.dev.7+g…          7 commits after v1.5.0-rc.1
	//	1.4.3-dev.0+g….dirty         at the tag v1.4.2, with changes
	//
	// A version between tags is newer than the tag before it and older than
	// whatever is tagged next.
	Version string
	// Revision is the whole id of the commit.
	Revision string
	// Time is when it was committed, in UTC.
	Time time.Time
	// Dirty tells that the tree has changes, new files among them.
	Dirty bool
}

// Version reads the repository. Nothing is changed. Errors: ErrDirty,
// ErrNoTag, or that git is missing or there is no commit.
func (r Repository) Version(ctx context.Context) (Version, error) {
	v, err := r.head(ctx)
	if err != nil {
		return Version{}, err
	}
	changes, err := r.git(ctx, "status", "--porcelain", "--untracked-files=normal")
	if err != nil {
		return Version{}, err
	}
	if v.Dirty = changes != ""; v.Dirty && !r.AllowDirty {
		first, _, _ := strings.Cut(changes, "\n")
		return Version{}, fmt.Errorf("%w (%s): commit or stash them, or allow them (--allow-dirty), which the version then tells", ErrDirty, strings.TrimSpace(first))
	}
	exact, err := r.newest(ctx, "--points-at", "HEAD")
	if err != nil {
		return Version{}, err
	}
	if exact != nil && !v.Dirty {
		v.Version = exact.String()
		return v, nil
	}
	return r.between(ctx, v)
}

// head tells the commit.
func (r Repository) head(ctx context.Context) (v Version, err error) {
	if _, err := r.git(ctx, "rev-parse", "--is-inside-work-tree"); err != nil {
		return Version{}, fmt.Errorf("a version is wanted from git: %w: give --version, or the directory of a git repository", err)
	}
	out, err := r.git(ctx, "show", "-s", "--no-show-signature", "--format=%H %ct", "HEAD")
	if err != nil {
		return Version{}, fmt.Errorf("a version is wanted from git, which has no commit yet: %w", err)
	}
	id, seconds, _ := strings.Cut(out, " ")
	at, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || len(id) < 12 {
		return Version{}, fmt.Errorf("git describes the commit as %.100q, want its id and time", out)
	}
	return Version{Revision: id, Time: time.Unix(at, 0).UTC()}, nil
}

// between names a commit that is no tagged release.
func (r Repository) between(ctx context.Context, v Version) (Version, error) {
	cut, err := r.git(ctx, "rev-parse", "--is-shallow-repository")
	if err != nil {
		return Version{}, err
	}
	last, err := r.newest(ctx, "--merged", "HEAD")
	switch {
	case err != nil:
		return Version{}, err
	case cut == "true":
		return Version{}, fmt.Errorf("the history was cut short when the repository was cloned, so that the commits since the last tag cannot be counted: run git fetch --unshallow --tags, or give --version")
	case last == nil:
		return Version{}, fmt.Errorf("%w up to commit %.12s: tag one, such as git tag v0.1.0, fetch the tags with git fetch --tags, or give --version", ErrNoTag, v.Revision)
	}
	count, err := r.git(ctx, "rev-list", "--count", "HEAD", "--not", "refs/tags/v"+last.String())
	if err != nil {
		return Version{}, err
	}
	next, before := semver.New(last.Major(), last.Minor(), last.Patch()+1, "", ""), "dev."
	if pre := last.Prerelease(); pre != "" {
		// What follows rc.1 is newer than it and older than rc.2.
		next, before = semver.New(last.Major(), last.Minor(), last.Patch(), "", ""), pre+".dev."
	}
	v.Version = next.String() + "-" + before + count + "+g" + v.Revision[:12]
	if v.Dirty {
		v.Version += ".dirty"
	}
	_, err = release.ParseVersion(v.Version)
	return v, err
}

// newest returns the greatest version that the tags chosen by args name, nil
// if none does. Tags that name no exact version count for nothing.
func (r Repository) newest(ctx context.Context, args ...string) (*semver.Version, error) {
	out, err := r.git(ctx, append([]string{"tag", "--list", "v*"}, args...)...)
	if err != nil {
		return nil, err
	}
	var newest *semver.Version
	for tag := range strings.FieldsSeq(out) {
		v, err := release.ParseVersion(strings.TrimPrefix(tag, "v"))
		if err == nil && (newest == nil || v.GreaterThan(newest)) {
			newest = v
		}
	}
	return newest, nil
}

// git runs git and returns what it wrote, without the last line's end.
func (r Repository) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.Dir
	// Its sentences are shown, its locks are not ours to take.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", fmt.Errorf("git is not installed: %w", err)
		}
		why, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, why)
	}
	return strings.TrimSpace(stdout.String()), nil
}
