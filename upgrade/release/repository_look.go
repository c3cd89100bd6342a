package release

import (
	"context"
	"fmt"
)

// Yanked returns why a release is withdrawn, as the index says now; empty
// while it is offered. Its error wraps ErrNotFound if there is no such release.
func (r *Repository) Yanked(ctx context.Context, name, version string) (reason string, err error) {
	index, _, err := r.load(ctx, name)
	if err == nil {
		if e := index.entry(version); e != nil {
			return e.Yanked, nil
		}
		_, err = index.Find(version)
	}
	return "", wrap("look up", name+" "+version, err)
}

// State tells which index stands in the repository now. Its error wraps
// ErrNotFound if there is none.
func (r *Repository) State(ctx context.Context, name string) (IndexState, error) {
	x, _, err := r.load(ctx, name)
	if err == nil && x.Sequence == 0 {
		err = fmt.Errorf("%w: %s holds no index", ErrNotFound, r.cfg.Dir)
	}
	if err != nil {
		return IndexState{}, wrap("read index of", name, err)
	}
	return IndexState{x.Sequence, x.Issued, x.Expires}, nil
}
