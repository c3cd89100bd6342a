// Package ctxio has readers end with a context.
package ctxio

import (
	"context"
	"io"
)

// Reader returns a reader of r that ends with ctx, whose error it then
// returns. A Read of r that has begun is not interrupted.
func Reader(ctx context.Context, r io.Reader) io.Reader { return &reader{ctx: ctx, r: r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (c *reader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
