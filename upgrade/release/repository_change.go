package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"

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

// Refresh signs the index anew with a later expiry and nothing else changed.
func (r *Repository) Refresh(ctx context.Context, name string) error {
	return wrap("refresh index of", name, r.change(ctx, name, func(x *Index) (changed bool, err error) {
		if x.Sequence == 0 {
			return false, fmt.Errorf("%w: %s holds no index: publish a release first", ErrNotFound, r.cfg.Dir)
		}
		return true, nil
	}))
}

// change writes the next index, unless edit says that it would be the same.
func (r *Repository) change(ctx context.Context, name string, edit func(*Index) (changed bool, err error)) (err error) {
	if err := checkName(name); err != nil {
		return err
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
