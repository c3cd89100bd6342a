package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/examples/internal/durable"
)

// Images tells the digests of images.
type Images interface {
	// Digest returns what tag of host/repository is now, as sha256: and 64
	// hexadecimal digits. host is docker.io for docker's own.
	Digest(ctx context.Context, host, repository, tag string) (string, error)
}

// Actions tells the commits of actions.
type Actions interface {
	// Commit returns what a tag or branch of the repository owner/name is now,
	// as 40 or 64 hexadecimal digits.
	Commit(ctx context.Context, repository, revision string) (string, error)
}

// question is what must be known to mend something: the digest of an image, or
// the commit of an action.
type question struct {
	image            reference
	action, revision string
}

// String names what is asked for.
func (q question) String() string {
	if q.action != "" {
		return q.action + "@" + q.revision
	}
	return q.image.String()
}

// answer asks, and checks what is answered: it is to be written into a file.
func (q question) answer(ctx context.Context, images Images, actions Actions) (string, error) {
	if q.action != "" {
		commit, err := actions.Commit(ctx, q.action, q.revision)
		if err == nil && !objectID(commit) {
			err = fmt.Errorf("%s is answered as %.100q, which is no commit", q, commit)
		}
		return commit, err
	}
	ref := q.image
	digest, err := images.Digest(ctx, ref.host, ref.repository, cmp.Or(ref.tag, "latest"))
	if err == nil {
		ref.digest = digest
		_, err = parseReference(ref.String())
	}
	return digest, err
}

// edit is what would mend a finding once its question is answered.
type edit struct {
	offset int
	old    string
	ask    question
	after  string // what follows a commit: it takes the place of the tag
}

func (e *edit) replacement(answer string) string {
	switch {
	case e.ask.action != "":
		return answer + e.after
	case e.ask.image.tag == "":
		return e.old + ":latest@" + answer // as the reference was read
	}
	return e.old + "@" + answer
}

// askers bounds how many questions are asked at a time.
const askers = 4

// Resolve asks for the digest of every image and the commit of every action
// that can be pinned, each once, and adds what was found to the findings; what
// was not found is told in Unfixed. progress, which may be nil, is called with
// each answer, one at a time. The files are left alone. The only error is that
// of ctx.
func (r *Report) Resolve(ctx context.Context, images Images, actions Actions, progress func(done, of int, what string)) error {
	asked := map[question][]*Finding{}
	for i := range r.Findings {
		f := &r.Findings[i]
		switch {
		case !f.Open():
		case f.edit != nil:
			asked[f.edit.ask] = append(asked[f.edit.ask], f)
		case slices.Contains([]string{imageTagMissing, imageTagFloating, imageDigestMissing}, f.Rule):
			f.Unfixed = cmp.Or(f.byHand, "it does not stand in the file as it is read") + ": pin it by hand"
		case f.Rule == ciRefFloating, f.Rule == ciCommitMissing:
			f.Unfixed = cmp.Or(f.byHand, "only actions of GitHub are asked for their commits") + ": pin it by hand"
		}
	}
	var mu sync.Mutex
	done := 0
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(askers)
	for q, findings := range asked {
		g.Go(func() error {
			answer, err := q.answer(ctx, images, actions)
			mu.Lock()
			defer mu.Unlock()
			for _, f := range findings {
				if err != nil {
					f.Unfixed = err.Error()
				} else {
					f.Fix = &Fix{Old: f.edit.old, New: f.edit.replacement(answer)}
				}
			}
			if done++; progress != nil {
				progress(done, len(asked), q.String())
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// String returns the reference in full.
func (r reference) String() string {
	s := r.host + "/" + r.repository
	if r.tag != "" {
		s += ":" + r.tag
	}
	if r.digest != "" {
		s += "@" + r.digest
	}
	return s
}

// Took returns the report of another run, made after changes were applied,
// with what they fixed, and why else what still stands was not fixed.
func (r *Report) Took(again *Report) *Report {
	type key struct {
		path, rule, message string
		line                int
	}
	why := map[key]string{}
	for _, f := range r.Findings {
		if f.Fix != nil && f.Fix.Applied {
			again.Findings = append(again.Findings, f)
		}
		why[key{f.Path, f.Rule, f.Message, f.Line}] = f.Unfixed
	}
	for i := range again.Findings {
		f := &again.Findings[i]
		f.Unfixed = why[key{f.Path, f.Rule, f.Message, f.Line}]
	}
	again.settle()
	return again
}

// Change is one file before and after.
type Change struct {
	Path          string // as in Finding
	Before, After []byte

	dir, name string
	mode      fs.FileMode
	findings  []*Finding
}

// Changes returns what the fixes that were found make of the files, in order.
// A file that is no longer as it was audited is an error, which its findings
// tell too, and does not keep the others from being returned.
func (r *Report) Changes() ([]Change, error) {
	byPath := map[string][]*Finding{}
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Fix != nil && f.edit != nil && f.Open() {
			byPath[f.Path] = append(byPath[f.Path], f)
		}
	}
	var all []Change
	var failed []error
	for _, shown := range sorted(byPath) {
		c, err := changeOf(shown, byPath[shown])
		if err != nil {
			failed = append(failed, err)
			leave(byPath[shown], err)
			continue
		}
		all = append(all, c)
	}
	return all, errors.Join(failed...)
}

// leave says of findings that their file was not changed, and why.
func leave(findings []*Finding, why error) {
	for _, f := range findings {
		f.Fix, f.Unfixed = nil, why.Error()
	}
}

func changeOf(shown string, findings []*Finding) (Change, error) {
	c := Change{Path: shown, dir: filepath.FromSlash(path.Dir(shown)), name: path.Base(shown), findings: findings}
	t, err := openTree(c.dir, nil)
	if err != nil {
		return Change{}, err
	}
	defer t.close()
	if c.Before, err = t.read(c.name, maxDocument); err != nil {
		return Change{}, fmt.Errorf("%s: %w", shown, err)
	}
	info, err := t.root.Lstat(c.name)
	if err != nil || !info.Mode().IsRegular() {
		return Change{}, errors.Join(fmt.Errorf("%s is no regular file any more", shown), err)
	}
	c.mode = info.Mode().Perm()
	slices.SortFunc(findings, func(x, y *Finding) int { return cmp.Compare(x.edit.offset, y.edit.offset) })
	end := 0
	for _, f := range findings {
		from, old := f.edit.offset, []byte(f.Fix.Old)
		if from < end || from+len(old) > len(c.Before) || !bytes.Equal(c.Before[from:from+len(old)], old) {
			return Change{}, fmt.Errorf("%s: line %d is not as it was read: audit again", shown, f.Line)
		}
		c.After = append(append(c.After, c.Before[end:from]...), f.Fix.New...)
		end = from + len(old)
	}
	c.After = append(c.After, c.Before[end:]...)
	return c, nil
}

// Apply replaces the file at once by its new content and marks the findings
// as fixed. A crash leaves the old file or the new one, and perhaps a file
// .NAME.agentd-audit beside it, which the next fix of it removes.
func (c *Change) Apply() error {
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	draft := "." + c.name + ".agentd-audit"
	if err := root.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(c.After)
	if err == nil {
		err = f.Chmod(c.mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(draft, c.name)
	}
	if err == nil {
		err = durable.SyncDir(c.dir)
	}
	if err != nil {
		err = fmt.Errorf("%s was not changed: %w", c.Path, err)
		leave(c.findings, err)
		return errors.Join(err, root.Remove(draft))
	}
	for _, f := range c.findings {
		f.Fix.Applied = true
	}
	return nil
}
