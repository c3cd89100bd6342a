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

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/disk"
)

// unverifiedSuffix marks bytes whose digest has not been checked. Nothing
// executes or unpacks a file with this name.
const unverifiedSuffix = ".unverified"

const fetchChunk = 256 << 10

// Fetch downloads this platform's binary to dst, mode 0600. Where a Cache has
// it, dst may become a hard link to it instead, mode 0555, which nobody may
// write to. Bytes arrive in
// dst + ".unverified", which is renamed only once size and digest are the
// signed ones; what an interrupted call left there is resumed. progress may
// be nil; it is called from this goroutine after each chunk, so it should be
// quick.
//
// The manifest must come from Client.Manifest or Trust.VerifyManifest.
// Errors wrap ErrPlatform, ErrNoSpace, ErrNotFound or ErrDigest where one of
// them is the cause.
func (c *Client) Fetch(ctx context.Context, m *Manifest, dst string, progress func(done, total int64)) error {
	return wrap("download", m.Name+" "+m.Version, c.fetch(ctx, m, dst, progress))
}

func (c *Client) fetch(ctx context.Context, m *Manifest, dst string, progress func(done, total int64)) error {
	p, err := m.Platform(c.cfg.OS, c.cfg.Arch)
	if err != nil {
		return err
	}
	// A manifest made by hand must not turn into a path.
	if err := p.validate(); err != nil {
		return err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	d := &download{source: c.cfg.Source, platform: p, path: dst + unverifiedSuffix, progress: progress}
	if done, err := d.link(ctx, dst); done || err != nil {
		return err
	}
	resumed, err := d.run(ctx)
	if errors.Is(err, ErrDigest) && (resumed || mayResume(d.source)) {
		// What lay here or there was of something else, or was damaged.
		_, err = d.run(ctx)
	}
	if err != nil {
		return err
	}
	if err := atomicfile.Rename(d.path, dst); err != nil {
		return fmt.Errorf("put the verified binary in place: %w", err)
	}
	return nil
}

// download is one binary on its way to a file.
type download struct {
	source   Source
	platform Platform
	path     string
	progress func(done, total int64)

	file *os.File
	sum  hash.Hash
	done int64
}

// run downloads what is missing and checks the whole. A file that can be of
// no use any more is removed; one that is merely incomplete stays.
func (d *download) run(ctx context.Context) (resumed bool, err error) {
	d.file, err = os.OpenFile(d.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, fmt.Errorf("download: %w", err)
	}
	err = d.fill(ctx, &resumed)
	if err == nil {
		err = d.file.Sync()
	}
	if disk.IsFull(err) {
		err = fmt.Errorf("%w: writing %s stopped after %d of %d bytes: %w", ErrNoSpace, d.path, d.done, d.platform.Size, err)
	}
	err = errors.Join(err, d.file.Close())
	if errors.Is(err, ErrDigest) || errors.Is(err, ErrNoSpace) || (err != nil && d.done == 0) {
		err = errors.Join(err, os.Remove(d.path))
	}
	return resumed, err
}

func (d *download) fill(ctx context.Context, resumed *bool) error {
	if err := d.rehash(); err != nil {
		return err
	}
	*resumed = d.done > 0
	if err := d.checkSpace(); err != nil {
		return err
	}
	d.progress(d.done, d.platform.Size)
	if d.done < d.platform.Size {
		if err := d.receive(ctx); err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(d.sum.Sum(nil)); got != d.platform.SHA256 {
		return fmt.Errorf("%w: the binary for %s from %s is sha256:%s, signed is sha256:%s: the repository is damaged or altered; publish the release again", ErrDigest, d.platform, d.source, got, d.platform.SHA256)
	}
	return nil
}

// rehash takes up what an earlier call has left.
func (d *download) rehash() error {
	d.sum, d.done = sha256.New(), 0
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file: remove it", d.path)
	}
	if info.Size() > d.platform.Size {
		return d.file.Truncate(0)
	}
	d.done, err = io.Copy(d.sum, d.file)
	return err
}

// checkSpace says before the first byte what would fail at the last.
func (d *download) checkSpace() error {
	need := d.platform.Size - d.done
	if err := disk.Check(filepath.Dir(d.path), need); err != nil {
		return fmt.Errorf("the binary for %s: %w", d.platform, err)
	}
	return nil
}

// receive appends from the source until the signed size is reached. What a
// source would send after that is not read.
func (d *download) receive(ctx context.Context) (err error) {
	size := d.platform.Size
	body, total, err := d.source.Open(ctx, blobPath(d.platform.SHA256), d.done)
	if err != nil {
		return absent(err, d.source)
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	if total >= 0 && total != size {
		return fmt.Errorf("%w: the binary for %s in %s has %d bytes, signed are %d: the repository is damaged or altered; publish the release again", ErrDigest, d.platform, d.source, total, size)
	}
	buf := make([]byte, min(fetchChunk, size-d.done))
	for d.done < size {
		n, err := body.Read(buf[:min(int64(len(buf)), size-d.done)])
		if n > 0 {
			if _, err := d.file.Write(buf[:n]); err != nil {
				return err
			}
			d.sum.Write(buf[:n])
			d.done += int64(n)
			d.progress(d.done, size)
		}
		if err != nil && d.done < size {
			return fmt.Errorf("the binary for %s from %s ended after %d of %d bytes: %w", d.platform, d.source, d.done, size, noEOF(err))
		}
	}
	return nil
}
