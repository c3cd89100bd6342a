package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/ctxio"
)

const (
	// UnverifiedSuffix ends the names of files whose digest has not been checked. Nothing
	// executes or unpacks a file with this name.
	UnverifiedSuffix = ".unverified"
	// decodedSuffix marks the output of a decoder before its digest is known.
	decodedSuffix = ".decoded" + UnverifiedSuffix
)

// FetchOptions are what a host can say to make a download small, and where it
// reports to. The zero value fetches whole binaries and reports nothing.
type FetchOptions struct {
	// Old holds the paths of binaries that are on this host by their
	// lower-case hexadecimal SHA-256, such as the running one. A file that
	// does not have its digest any more is not used.
	Old map[string]string
	// Progress is called from the calling goroutine after each chunk, so it
	// should be quick. May be nil.
	Progress func(FetchProgress)
	// Logger receives why a smaller form was not used; nil means the client's.
	Logger *slog.Logger
}

// FetchProgress tells how far a download is.
type FetchProgress struct {
	// Form is what is downloaded: "plain", "zstd", "zstd from 0123456789ab" or
	// "bsdiff from 0123456789ab".
	Form string
	// Done and Total count its bytes; what an earlier call left counts as
	// done.
	Done, Total int64
	// Passed says why a smaller form was not used; usually empty.
	Passed string
}

// Fetched says how a binary got here.
type Fetched struct {
	// Form is what it was made of, as in FetchProgress; "cache" for a link to a
	// file of a cache, empty if a file with the signed digest was there already.
	Form string
	// Bytes counts what was read from the source, that of forms which turned
	// out to be of no use included.
	Bytes int64
	// Passed says of each form that would have cost fewer bytes why it was not
	// used.
	Passed []error
}

// Fetch downloads this platform's binary to dst, mode 0600. A file that is
// there already and has the signed digest is kept. Where a Cache has the binary,
// dst becomes a hard link to it if it can, and what a smaller form has made
// becomes a file of the cache, too: mode 0555, which nobody may write to.
//
// The form that costs the fewest bytes is taken: a delta from one of
// FetchOptions.Old that fits ClientConfig.MemoryLimit, else a compressed form,
// else the binary as it is. What a Cache has costs none. If one cannot be had or does not lead to the
// binary, the next one is taken. A decoder is given bytes only once their own
// size and digest are the signed ones, and whatever it makes of them must
// have the binary's.
//
// Bytes arrive in files beside dst whose names end in ".unverified". What an
// interrupted call left there is resumed. The binary itself is written once,
// hashed on its way, synced, and renamed to dst.
//
// The manifest must come from Client.Manifest or Trust.VerifyManifest. Errors
// are about the last form that was tried and wrap ErrPlatform, ErrNoSpace,
// ErrNotFound or ErrDigest where one of them is the cause.
func (c *Client) Fetch(ctx context.Context, m *Manifest, dst string, opts FetchOptions) (Fetched, error) {
	got, err := c.fetch(ctx, m, dst, opts)
	return got, wrap("download", m.Name+" "+m.Version, err)
}

func (c *Client) fetch(ctx context.Context, m *Manifest, dst string, opts FetchOptions) (got Fetched, err error) {
	p, err := m.Platform(c.cfg.OS, c.cfg.Arch)
	if err != nil {
		return got, err
	}
	// A manifest made by hand must not turn into a path.
	if err := p.validate(); err != nil {
		return got, err
	}
	if there, err := has(ctx, dst, p); there || err != nil {
		return got, err
	}
	if opts.Progress == nil {
		opts.Progress = func(FetchProgress) {}
	}
	if opts.Logger == nil {
		opts.Logger = c.cfg.Logger.With("release", m.Version)
	}
	if there, err := c.link(ctx, p, dst, opts.Logger); err != nil {
		return got, err
	} else if there {
		got.Form = formLinked
		return got, removeAll(p.leftovers(dst))
	}
	forms := c.forms(p, opts.Old)
	for i, f := range forms {
		err := c.obtain(ctx, p, f, dst, opts.Progress, &got)
		if err == nil {
			if got.Form = f.String(); !f.plain() {
				c.share(ctx, p, dst, opts.Logger)
			}
			return got, removeAll(p.leftovers(dst))
		}
		if i == len(forms)-1 || ctx.Err() != nil {
			return got, err
		}
		err = fmt.Errorf("%s: %w", f, err)
		got.Passed = append(got.Passed, err)
		opts.Logger.Warn("a form of the binary is of no use, the next one is taken", "error", err)
	}
	return got, nil // not reached: the last form returns
}

// obtain puts the binary to dst by way of f.
func (c *Client) obtain(ctx context.Context, p Platform, f form, dst string, progress func(FetchProgress), got *Fetched) error {
	if err := f.checkMemory(p.Size, c.cfg.MemoryLimit); err != nil {
		return err
	}
	told := FetchProgress{Form: f.String()}
	if n := len(got.Passed); n > 0 {
		told.Passed = got.Passed[n-1].Error()
	}
	d := &download{
		source: c.cfg.Source, blob: f.Encoding, what: f.what(p), path: f.path(dst), durable: f.plain(),
		progress: func(done, total int64) { told.Done, told.Total = done, total; progress(told) },
	}
	if !f.plain() {
		d.room = p.Size // what it is decoded to
	}
	resumed, err := d.run(ctx)
	got.Bytes += d.received
	if errors.Is(err, ErrDigest) && (resumed || mayResume(d.source)) {
		// What lay here or there was of something else, or was damaged.
		d.received = 0
		_, err = d.run(ctx)
		got.Bytes += d.received
	}
	if err != nil {
		return err
	}
	ready := d.path
	if !f.plain() {
		if ready, err = f.decode(ctx, p, d.path, dst+decodedSuffix); err != nil {
			return err
		}
	}
	if err := atomicfile.Rename(ready, dst); err != nil {
		return fmt.Errorf("put the verified binary in place: %w", err)
	}
	return nil
}

// what names the form's bytes in errors.
func (f form) what(p Platform) string {
	if f.plain() {
		return "the binary for " + p.String()
	}
	return fmt.Sprintf("the %s form of the binary for %s", f, p)
}

// has reports whether path holds p. Anything else there is removed.
func has(ctx context.Context, path string, p Platform) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, ctxio.Reader(ctx, io.LimitReader(file, p.Size+1)))
	if err != nil {
		return false, err
	}
	if n == p.Size && hex.EncodeToString(sum.Sum(nil)) == p.SHA256 {
		return true, nil
	}
	return false, os.Remove(path)
}

func removeAll(paths []string) (err error) {
	for _, path := range paths {
		if failed := os.Remove(path); failed != nil && !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}
	return err
}
