package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/internal/disk"
)

// fill reads from the source and keeps what it reads. What cannot be kept is
// read all the same: the cache saves work and is needed for nothing.
func (c *Cache) fill(ctx context.Context, name, digest string, offset int64) (io.ReadCloser, int64, error) {
	p, err := c.beginPart(ctx, digest)
	if errors.Is(err, errPresent) {
		if body, size, err := c.entry(ctx, digest, offset); err == nil {
			return body, size, nil
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		c.cfg.Logger.Info("file is read and not kept", "path", name, "error", err)
		return c.cfg.Source.Open(ctx, name, offset)
	}
	if p.size > 0 && p.complete() { // killed between the last byte and the commit
		err := errors.Join(p.commit(), p.close())
		if body, size, failed := c.entry(ctx, digest, offset); failed == nil {
			return body, size, nil
		}
		c.cfg.Logger.Warn("file is read and not kept", "path", name, "error", err)
		return c.cfg.Source.Open(ctx, name, offset)
	}
	return c.goOn(ctx, p, name, offset)
}

// goOn opens the source where the part ends.
func (c *Cache) goOn(ctx context.Context, p *part, name string, offset int64) (io.ReadCloser, int64, error) {
	if offset > p.size {
		// The caller has more than the cache: to fetch the gap would cost
		// bytes that nobody asked for.
		body, total, err := c.cfg.Source.Open(ctx, name, offset)
		return body, total, errors.Join(err, p.leave())
	}
	body, total, err := c.cfg.Source.Open(ctx, name, p.size)
	if err != nil && p.size > 0 && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
		// Perhaps the part is longer than the file.
		c.keepNot(name, err, p.discard(), p.close())
		return c.cfg.Source.Open(ctx, name, offset)
	}
	if err != nil {
		return nil, 0, errors.Join(err, p.leave())
	}
	f := &filler{ctx: ctx, cache: c, name: name, part: p, body: body, at: offset, kept: p.size, total: total}
	if p.size == 0 && total >= 0 {
		f.checkSpace()
	}
	return f, total, nil
}

func (c *Cache) keepNot(name string, causes ...error) {
	c.cfg.Logger.Warn("file is read and not kept", "path", name, "error", errors.Join(causes...))
}

// leave closes a part that may have nothing in it.
func (p *part) leave() (err error) {
	if p.size == 0 {
		err = p.discard()
	}
	return errors.Join(err, p.close())
}

// filler hands out a part, then what comes after it from the source, which
// it adds to the part.
type filler struct {
	ctx   context.Context
	cache *Cache
	name  string
	part  *part // nil once nothing is kept any more
	body  io.ReadCloser
	at    int64 // offset of the next byte for the reader
	kept  int64 // how much of it was in the part at first
	total int64

	broken bool // the source has failed
}

// checkSpace gives up keeping where there may not be room for the reader's
// own copy beside it.
func (f *filler) checkSpace() {
	if f.total > f.cache.cfg.MaxBytes {
		f.stopKeeping(fmt.Errorf("%w: it has %d bytes, the whole cache may have %d", boundedio.ErrTooLarge, f.total, f.cache.cfg.MaxBytes))
	} else if err := disk.Check(f.cache.cfg.Dir, 2*f.total); err != nil {
		f.stopKeeping(err)
	}
}

// Read implements io.Reader.
func (f *filler) Read(b []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	if f.body == nil {
		return 0, fmt.Errorf("%s: %w", f.name, fs.ErrClosed)
	}
	if f.at < f.kept {
		n, err := f.part.lock.ReadAt(b[:min(int64(len(b)), f.kept-f.at)], f.at)
		f.at += int64(n)
		if n > 0 {
			err = nil
		}
		return n, err
	}
	n, err := f.body.Read(b)
	f.at += int64(n)
	if f.part == nil {
		return n, err
	}
	if n > 0 {
		if failed := f.part.write(b[:n]); failed != nil {
			f.stopKeeping(failed)
			return n, err
		}
	}
	switch {
	case f.at == f.total, f.total < 0 && errors.Is(err, io.EOF):
		f.finish(true)
	case err != nil:
		f.broken = true
	}
	return n, err
}

// stopKeeping also gives back the room, for which the reader may wait.
func (f *filler) stopKeeping(cause error) {
	p := f.part
	f.part = nil
	f.cache.keepNot(f.name, cause, p.discard(), p.close())
}

// finish makes an entry of a part that is complete. One that cannot become so,
// because the source has come to its end, was damaged or altered.
func (f *filler) finish(end bool) {
	p := f.part
	f.part = nil
	var err error
	switch {
	case p.complete():
		err = p.commit()
	case end || p.size == 0:
		err = p.discard()
	}
	if err = errors.Join(err, p.close()); err != nil {
		f.cache.keepNot(f.name, err)
	}
}

// full reports whether the rest has no room: the reader may have stopped because of
// that, and what there is of the part is in the way of all who write there.
func (f *filler) full() bool {
	return disk.Check(f.cache.cfg.Dir, max(f.total-f.part.size, 1)) != nil
}

// Close implements io.Closer. What has come so far stays for the next reader, unless
// the disk is full.
func (f *filler) Close() error {
	if f.body == nil {
		return nil
	}
	if f.part != nil {
		// Of a file whose size is not known, the reader may have had all and
		// found it wrong: unless it was the source that ended, what there is
		// would be handed out again and again.
		f.finish(f.at == f.total || (f.total < 0 && !f.broken) || f.full())
	}
	err := f.body.Close()
	f.body = nil
	return err
}
