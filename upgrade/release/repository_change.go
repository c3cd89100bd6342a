package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// Yank withdraws a release: hosts refuse to upgrade to it from now on. Those
// that run it are not touched. The reason is one line of at most 1 KiB; an
// empty one offers the release again. Where the index says that already, it
// stays as it is, with its expiry; a signature beside it or a StateDir that a
// publisher has left behind when it died is mended.
func (r *Repository) Yank(ctx context.Context, name, version, reason string) error {
	_, err := r.Withdraw(ctx, name, version, reason)
	return err
}

// Withdraw is Yank, and returns for what reason the release was withdrawn
// before, empty if it was offered: the index was changed if that is another.
func (r *Repository) Withdraw(ctx context.Context, name, version, reason string) (before string, err error) {
	if err := checkReason(reason); err != nil {
		return "", wrap("withdraw", name+" "+version, err)
	}
	err = r.change(ctx, name, func(x *Index) (changed bool, err error) {
		e := x.entry(version)
		if e == nil {
			_, err := x.Find(version)
			return false, err
		}
		before, e.Yanked = e.Yanked, reason
		return before != reason, nil
	})
	return before, wrap("withdraw", name+" "+version, err)
}

// Refresh signs the index anew with a later expiry and nothing else changed. As
// with Yank, the error wraps ErrNotFound where there is no index, and nothing is
// made then.
func (r *Repository) Refresh(ctx context.Context, name string) error {
	return wrap("refresh index of", name, r.change(ctx, name, func(*Index) (changed bool, err error) { return true, nil }))
}

// State tells which index stands in the repository now; what a killed publisher
// has left undone is mended as by Yank. Its error wraps ErrNotFound if there is no
// index.
func (r *Repository) State(ctx context.Context, name string) (state IndexState, err error) {
	err = r.change(ctx, name, func(x *Index) (changed bool, err error) {
		state = IndexState{x.Sequence, x.Issued, x.Expires}
		return false, nil
	})
	return state, wrap("read index of", name, err)
}

// change writes the next index, unless edit says that it would be the same.
func (r *Repository) change(ctx context.Context, name string, edit func(*Index) (changed bool, err error)) (err error) {
	if err := CheckName(name); err != nil {
		return err
	}
	// The lock would make the directory.
	if _, err := os.Stat(r.file(indexPath)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s holds no index: give the directory of a repository, or publish a release first", ErrNotFound, r.cfg.Dir)
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	found, err := r.load(ctx, name)
	if err != nil {
		return err
	}
	changed, err := edit(found.index)
	if err != nil {
		return err
	}
	if !changed {
		return r.mendIndex(found)
	}
	return r.commit(found.index)
}

// mendIndex does what a publisher has left undone that died once its index was
// in place: the signature's copy beside it, and what is remembered. An index
// that is older than that was accepted for once, and is not remembered.
func (r *Repository) mendIndex(found standing) error {
	path := indexPath + signatureSuffix
	beside, err := atomicfile.Read(r.file(path), maxSignatureSize)
	if err != nil || !bytes.Equal(beside, found.signature) {
		if err := r.write(path, found.signature); err != nil {
			return err
		}
	}
	last, err := r.remembered()
	if err != nil || last.Sequence >= found.index.Sequence {
		return err
	}
	return r.remember(found.index, found.raw)
}
