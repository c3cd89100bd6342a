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
	"path/filepath"

	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/internal/ctxio"
	"github.com/perennial-go/perennial/internal/disk"
)

const fetchChunk = 256 << 10

// download is one signed blob on its way to a file.
type download struct {
	source Source
	blob   Encoding
	what   string // names the blob
	path   string
	// room is what will be wanted on the disk besides.
	room     int64
	durable  bool // whether to sync the file
	progress func(done, total int64)

	file     *os.File
	sum      hash.Hash
	done     int64
	received int64 // from the source, by this call
}

// run downloads what is missing and checks the whole. A file that can be of
// no use any more is removed; one that is merely incomplete stays.
func (d *download) run(ctx context.Context) (resumed bool, err error) {
	d.file, err = os.OpenFile(d.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, fmt.Errorf("download: %w", writeError(err))
	}
	err = d.fill(ctx, &resumed)
	if err == nil && d.durable {
		err = d.file.Sync()
	}
	if disk.IsFull(err) {
		err = fmt.Errorf("%w: writing %s stopped after %d of %d bytes: %w", ErrNoSpace, d.path, d.done, d.blob.Size, err)
	}
	err = errors.Join(err, d.file.Close())
	if errors.Is(err, ErrDigest) || errors.Is(err, ErrNoSpace) || (err != nil && d.done == 0) {
		err = errors.Join(err, os.Remove(d.path))
	}
	return resumed, err
}

func (d *download) fill(ctx context.Context, resumed *bool) error {
	if err := d.rehash(ctx); err != nil {
		return err
	}
	*resumed = d.done > 0
	if err := d.checkSpace(); err != nil {
		return err
	}
	d.progress(d.done, d.blob.Size)
	if d.done < d.blob.Size {
		if err := d.receive(ctx); err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(d.sum.Sum(nil)); got != d.blob.SHA256 {
		return fmt.Errorf("%w: %s from %s is sha256:%s, signed is sha256:%s: the repository is damaged or altered; publish the release again", ErrDigest, d.what, d.source, got, d.blob.SHA256)
	}
	return nil
}

// rehash takes up what an earlier call has left.
func (d *download) rehash(ctx context.Context) error {
	d.sum, d.done = sha256.New(), 0
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file: remove it", d.path)
	}
	if info.Size() > d.blob.Size {
		return d.file.Truncate(0)
	}
	d.done, err = io.Copy(d.sum, ctxio.Reader(ctx, d.file))
	return err
}

// checkSpace says before the first byte what would fail at the last.
func (d *download) checkSpace() error {
	need := d.blob.Size - d.done + d.room
	if err := disk.Check(filepath.Dir(d.path), need); err != nil {
		return fmt.Errorf("%s: %w", d.what, err)
	}
	return nil
}

// receive appends from the source until the signed size is reached. What a
// source would send after that is not read.
func (d *download) receive(ctx context.Context) (err error) {
	size := d.blob.Size
	body, total, err := d.source.Open(ctx, blobPath(d.blob.SHA256), d.done)
	if err != nil {
		return absent(err, d.source)
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	if total >= 0 && total != size {
		return fmt.Errorf("%w: %s in %s has %d bytes, signed are %d: the repository is damaged or altered; publish the release again", ErrDigest, d.what, d.source, total, size)
	}
	pace := disk.NewWriteback(d.file, d.done)
	buf := make([]byte, min(fetchChunk, size-d.done))
	for d.done < size {
		n, err := body.Read(buf[:min(int64(len(buf)), size-d.done)])
		if n > 0 {
			if _, err := d.file.Write(buf[:n]); err != nil {
				return err
			}
			d.sum.Write(buf[:n])
			d.done += int64(n)
			d.received += int64(n)
			pace.Wrote(n)
			d.progress(d.done, size)
		}
		if err != nil && d.done < size {
			return fmt.Errorf("%s from %s ended after %d of %d bytes: %w", d.what, d.source, d.done, size, boundedio.NoEOF(err))
		}
	}
	return nil
}
