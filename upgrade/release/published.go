package release

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/ident"
)

// publishedFile is where a publisher remembers, in its StateDir.
const publishedFile = "published.json"

const maxPublishedSize = 64 << 10

// published is the newest index that a publisher has signed in a repository.
// Whoever else can write there can put an older one back, whose signature is
// good: the publisher would extend it, and drop a withdrawal with that.
type published struct {
	Schema int `json:"schema"`
	// Name is the program.
	Name string `json:"name"`
	// Sequence is that of the index.
	Sequence int64 `json:"sequence"`
	// Index is its SHA-256.
	Index string `json:"index"`
}

func parsePublished(data []byte) (published, error) {
	var p published
	if err := decodeDocument("file", data, maxPublishedSize, &p); err != nil {
		return published{}, err
	}
	if CheckName(p.Name) != nil || p.Sequence < 1 || p.Sequence > maxSequence || !ident.SHA256(p.Index) {
		return published{}, errors.New("its name, sequence and index digest do not make sense")
	}
	return p, nil
}

// remembered returns the zero value where nothing is remembered. A file that
// cannot be understood is an error, as in trust.json.
func (r *Repository) remembered() (published, error) {
	if r.cfg.StateDir == "" {
		return published{}, nil
	}
	path := filepath.Join(r.cfg.StateDir, publishedFile)
	data, err := atomicfile.Read(path, maxPublishedSize)
	if errors.Is(err, fs.ErrNotExist) {
		return published{}, nil
	}
	var p published
	if err == nil {
		p, err = parsePublished(data)
	}
	if err != nil {
		return published{}, fmt.Errorf("what this publisher remembers, %s: %w: restore it, or delete it to forget which index was signed last", path, err)
	}
	return p, nil
}

// checkRemembered refuses to go on from an index that is not at least the one
// that this publisher has signed last. Where there is none, nothing is gone on
// from: a repository that is begun anew offers what is published to it and no
// more, so that no withdrawal is lost.
func (r *Repository) checkRemembered(name string, x *Index, raw []byte) error {
	last, err := r.remembered()
	if err != nil || last.Sequence == 0 {
		return err
	}
	if last.Name != name {
		return fmt.Errorf("%s is about %s, the release is of %s: give each repository a state directory of its own", filepath.Join(r.cfg.StateDir, publishedFile), last.Name, name)
	}
	var found string
	switch {
	case r.cfg.AcceptOlder, begun(x):
		return nil
	case x.Sequence < last.Sequence:
		found = fmt.Sprintf("index %d", x.Sequence)
	case x.Sequence == last.Sequence && sha256Hex(raw) != last.Index:
		found = fmt.Sprintf("another index %d", x.Sequence)
	default:
		return nil
	}
	return fmt.Errorf("%w: this publisher has signed index %d of %s in %s, found %s there: somebody has set the repository back, and a withdrawal may be lost with it. Restore the newest copy; if this one is meant, look at it (release list), and go on with --accept-older-index, then withdraw again what is missing", ErrReplay, last.Sequence, name, r.cfg.Dir, found)
}

// begun reports whether x is a repository's first index, not signed yet.
func begun(x *Index) bool { return x.Sequence == 0 }

// follow makes the next sequence one that hosts accept which have seen what was
// signed before the repository was set back or begun anew.
func (r *Repository) follow(x *Index) error {
	if !r.cfg.AcceptOlder && !begun(x) {
		return nil
	}
	last, err := r.remembered()
	x.Sequence = max(x.Sequence, last.Sequence)
	return err
}

// tellBegunAnew says that x takes the place of indexes which are gone, and
// which were perhaps not meant to be.
func (r *Repository) tellBegunAnew(x *Index, progress func(string)) error {
	if progress == nil || !begun(x) {
		return nil
	}
	last, err := r.remembered()
	if err == nil && last.Sequence > 0 {
		progress(fmt.Sprintf("index %d was signed here before and is gone: the repository begins anew at index %d; publish again what must be offered, and withdraw again what must stay withdrawn", last.Sequence, last.Sequence+1))
	}
	return err
}

// remember writes what was just signed. It comes after the index is in place: a
// publisher that dies in between remembers the one before, which stops nobody.
func (r *Repository) remember(x *Index, raw []byte) error {
	if r.cfg.StateDir == "" || r.cfg.StateReadOnly {
		return nil
	}
	if err := failpoint.Hit("publish.remember"); err != nil {
		return err
	}
	data, err := encodeDocument(published{Schema: Schema, Name: x.Name, Sequence: x.Sequence, Index: sha256Hex(raw)})
	if err == nil {
		err = os.MkdirAll(r.cfg.StateDir, 0o700)
	}
	if err == nil { // the repository's lock is held, and nobody else writes here: what is left is of dead publishers
		err = atomicfile.RemoveTemp(r.cfg.StateDir)
	}
	if err == nil {
		err = atomicfile.Write(filepath.Join(r.cfg.StateDir, publishedFile), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("index %d is published, but this publisher cannot remember it: %w", x.Sequence, writeError(err))
	}
	return nil
}
