package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/perennial-go/perennial/internal/ctxio"
	"github.com/perennial-go/perennial/internal/disk"
)

// decode makes the binary p at path from encoded, whose bytes are the signed
// ones, and returns path. Only a binary with the signed digest stays there;
// encoded is removed in any case but an interruption.
func (f form) decode(ctx context.Context, p Platform, encoded, path string) (string, error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("decode: %w", writeError(err))
	}
	b := &binaryWriter{ctx: ctx, file: out, pace: disk.NewWriteback(out, 0), sum: sha256.New(), size: p.Size}
	err = f.decodeTo(ctx, b, encoded, p.Size)
	if err == nil {
		err = b.check(p, f)
	}
	if err == nil {
		err = out.Sync()
	}
	if disk.IsFull(err) {
		err = fmt.Errorf("%w: writing %s stopped after %d of %d bytes: %w", ErrNoSpace, path, b.done, p.Size, err)
	}
	if err = errors.Join(err, out.Close()); err == nil {
		return path, nil
	}
	if ctx.Err() == nil {
		err = errors.Join(err, os.Remove(encoded))
	}
	return "", errors.Join(err, os.Remove(path))
}

// decodeTo writes to w what encoded stands for.
func (f form) decodeTo(ctx context.Context, w io.Writer, encoded string, size int64) (err error) {
	in, err := os.Open(encoded)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	switch {
	case f.from == "":
		return decodeZstd(w, in, nil, maxWindow)
	case f.Format == FormatBSDiff:
		return f.patch(ctx, w, in, size)
	}
	old, err := f.readOld(ctx)
	if err != nil {
		return err
	}
	return decodeZstd(w, in, old, deltaWindow(max(int64(len(old)), size)))
}

// readOld returns the older binary, once it is known to be the one that the
// delta is from.
func (f form) readOld(ctx context.Context) (data []byte, err error) {
	file, err := f.openOld(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	data = make([]byte, info.Size())
	_, err = io.ReadFull(ctxio.Reader(ctx, file), data)
	return data, err
}

// openOld opens the older binary and hashes it. It can still be written to
// while it is used; that leads to another digest in the end.
func (f form) openOld(ctx context.Context) (*os.File, error) {
	file, err := os.Open(f.old)
	if err != nil {
		return nil, fmt.Errorf("the older binary: %w", err)
	}
	sum := sha256.New()
	_, err = io.Copy(sum, ctxio.Reader(ctx, file))
	if got := hex.EncodeToString(sum.Sum(nil)); err == nil && got != f.from {
		err = fmt.Errorf("%w: the older binary %s is sha256:%s, the delta is from sha256:%s", ErrDigest, f.old, got, f.from)
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// binaryWriter takes the output of a decoder, up to the signed size.
type binaryWriter struct {
	ctx  context.Context
	file *os.File
	pace *disk.Writeback
	sum  hash.Hash
	done int64
	size int64
}

// Write implements io.Writer.
func (b *binaryWriter) Write(data []byte) (n int, err error) {
	if int64(len(data)) > b.size-b.done {
		return 0, fmt.Errorf("%w: it decodes to more than the %d bytes that are signed", errEncoding, b.size)
	}
	for len(data) > 0 {
		if err := b.ctx.Err(); err != nil {
			return n, err
		}
		chunk := data[:min(len(data), fetchChunk)]
		if _, err := b.file.Write(chunk); err != nil {
			return n, err
		}
		b.sum.Write(chunk)
		b.done += int64(len(chunk))
		b.pace.Wrote(len(chunk))
		n, data = n+len(chunk), data[len(chunk):]
	}
	return n, nil
}

// check compares what was written with what is signed.
func (b *binaryWriter) check(p Platform, f form) error {
	if got := hex.EncodeToString(b.sum.Sum(nil)); got != p.SHA256 {
		return fmt.Errorf("%w: %s decodes to %d bytes with sha256:%s, signed are %d with sha256:%s: publish the release anew", ErrDigest, f, b.done, got, p.Size, p.SHA256)
	}
	return nil
}
