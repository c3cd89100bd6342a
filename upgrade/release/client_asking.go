package release

import (
	"context"
	"errors"
	"fmt"

	"github.com/perennial-go/perennial/internal/boundedio"
)

// keeper is a source that keeps documents which have been verified, such as
// a Cache.
type keeper interface {
	Keep(name string, data []byte) (kept bool)
}

// refresher is a source that may answer from what it has kept, such as a
// Cache, and can be told to ask anew.
type refresher interface {
	Fresh() (Source, error)
}

// document is a file of a repository that is not named by its digest.
type document struct {
	name string
	data []byte
}

// keep hands over documents in the order in which they are to be stored. A
// document that cannot be kept costs another look, and nothing else.
func keep(src Source, documents ...document) {
	k, ok := src.(keeper)
	if !ok {
		return
	}
	for _, d := range documents {
		if !k.Keep(d.name, d.data) {
			return
		}
	}
}

// asking does what reads from a source, once, or a second time with a fresh
// one if what the source has kept may be the cause of the failure: what is
// damaged, forged, expired, replayed or lacks what is wanted may have been
// mended since.
func asking[T any](ctx context.Context, src Source, do func(Source) (T, error)) (T, error) {
	result, err := do(src)
	r, ok := src.(refresher)
	if err == nil || !ok || ctx.Err() != nil || !outdated(err) {
		return result, err
	}
	fresh, advice := r.Fresh()
	if advice != nil {
		return result, fmt.Errorf("%w; %w", err, advice)
	}
	if fresh == nil {
		return result, err
	}
	return do(fresh)
}

// renewed returns the source that asks anew for what src may have kept; false
// if src keeps nothing, asks anyhow or must not ask.
func renewed(src Source) (fresh Source, ok bool) {
	r, ok := src.(refresher)
	if !ok {
		return nil, false
	}
	fresh, err := r.Fresh()
	return fresh, err == nil && fresh != nil
}

// mayResume tells whether a source hands out the beginning of a file that an
// earlier reader has left, which nobody has verified.
func mayResume(src Source) bool {
	_, ok := src.(keeper)
	return ok
}

func outdated(err error) bool {
	for _, cause := range []error{ErrUntrusted, ErrExpired, ErrReplay, ErrNotFound, ErrDigest, boundedio.ErrTooLarge} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}
