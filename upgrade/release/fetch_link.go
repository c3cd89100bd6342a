package release

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// formLinked is the Form of a binary that a cache had.
const formLinked = "cache"

// linker is a source that may have a file on this host already, such as a
// Cache. It is trusted with the file no more than with any other.
type linker interface {
	LinkTo(name, dst string) error
	LinkFrom(ctx context.Context, name, src string) error
	// Has reports whether it would not have to ask for the file.
	Has(name string) bool
	// Drop tells it that the file which it linked to is not what it is named.
	Drop(name string)
}

// link puts the binary in place without a copy, if the source has it where
// it can be linked to. Otherwise done is false, and it has to be read.
func (c *Client) link(ctx context.Context, p Platform, dst string, log *slog.Logger) (done bool, err error) {
	l, ok := c.cfg.Source.(linker)
	if !ok {
		return false, nil
	}
	// Not the name of a download, which is written to: a link must not be.
	linked := temporaryName(dst)
	if l.LinkTo(blobPath(p.SHA256), linked) != nil {
		return false, nil //nolint:nilerr // reading tells what is wrong
	}
	same, err := has(ctx, linked, p)
	if ctx.Err() != nil {
		return false, errors.Join(ctx.Err(), removeAll([]string{linked}))
	}
	if err != nil {
		log.Warn("the cached binary cannot be used, it is read from the source", "digest", p.SHA256, "error", errors.Join(err, removeAll([]string{linked})))
		return false, nil
	}
	if !same {
		l.Drop(blobPath(p.SHA256))
		return false, nil
	}
	if err := atomicfile.Rename(linked, dst); err != nil {
		return false, errors.Join(err, os.Remove(linked))
	}
	return true, nil
}

// forms are those of p that can be had here, in the order in which they are tried:
// what a cache has costs nothing to fetch, however large it is.
func (c *Client) forms(p Platform, old map[string]string) []form {
	all := p.forms(old)
	if l, ok := c.cfg.Source.(linker); ok {
		cost := make(map[string]int, len(all))
		for _, f := range all {
			if !l.Has(blobPath(f.SHA256)) {
				cost[f.SHA256] = 1
			}
		}
		slices.SortStableFunc(all, func(a, b form) int { return cost[a.SHA256] - cost[b.SHA256] })
	}
	return all
}

// share gives the binary that a smaller form has made to the next agent of this
// host.
func (c *Client) share(ctx context.Context, p Platform, dst string, log *slog.Logger) {
	l, ok := c.cfg.Source.(linker)
	if !ok {
		return
	}
	if err := l.LinkFrom(ctx, blobPath(p.SHA256), dst); err != nil {
		log.Debug("the binary is not shared by way of the cache", "error", err)
	}
}
