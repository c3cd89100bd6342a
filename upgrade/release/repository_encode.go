package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/failpoint"
)

// Differ makes deltas in one format, such as bsdiff.Differ.
type Differ interface {
	// Format is the one of the Format constants that agents know it by.
	Format() string
	// Diff writes to w what makes current of old; the same input gives the
	// same bytes. An error that wraps errors.ErrUnsupported says that these
	// binaries are beyond it, and the release goes without this delta.
	Diff(ctx context.Context, w io.Writer, old, current []byte) error
}

// maxDeltaFrom bounds how many older releases one has deltas from.
const maxDeltaFrom = 16

// older is a binary that deltas can lead from.
type older struct{ version, sha256, path string }

// encoder makes the smaller forms of one platform's binary.
type encoder struct {
	*Repository
	dir      string // of the blobs
	platform *Platform
	tell     func(format string, args ...any)
}

// encode adds to m the smaller forms of its binaries, which are in the
// repository already, and stores them.
func (r *Repository) encode(ctx context.Context, x *Index, rel Release, m *Manifest) error {
	if r.cfg.PlainOnly {
		return nil
	}
	for i := range m.Platforms {
		e := r.encoder(&m.Platforms[i], rel.Progress)
		if err := e.compress(ctx); err != nil {
			return fmt.Errorf("%s: zstd: %w", e.platform, writeError(err))
		}
		olders, err := r.olders(ctx, x, rel, e)
		if err != nil {
			return err
		}
		for _, from := range olders {
			if err := e.diff(ctx, from); err != nil {
				return fmt.Errorf("%s: delta from %s: %w", e.platform, from.version, writeError(err))
			}
		}
	}
	return failpoint.Hit("publish.encodings")
}

func (r *Repository) encoder(p *Platform, progress func(string)) *encoder {
	return &encoder{
		Repository: r, platform: p, dir: filepath.Join(r.cfg.Dir, "blobs", "sha256"),
		tell: func(format string, args ...any) {
			if progress != nil {
				progress(p.String() + ": " + fmt.Sprintf(format, args...))
			}
		},
	}
}

// bases lists what rel gets deltas from, the newest first: the last n releases
// below it that are offered, and at most as many withdrawn ones that are newer
// than the oldest of those. The hosts that run a withdrawn release are the ones
// that are to leave it. Pre-releases count only for a pre-release: the builds
// of every day would use up the n, and a fleet runs none of them.
func (x *Index) bases(rel Release) ([]IndexEntry, error) {
	version, err := ParseVersion(rel.Version)
	if err != nil {
		return nil, err
	}
	var below []IndexEntry
	offered, withdrawn := 0, 0
	for _, e := range slices.Backward(x.Releases) { // an index is ordered by version
		v, err := ParseVersion(e.Version)
		if err != nil || !v.LessThan(version) || v.Prerelease() != "" && version.Prerelease() == "" {
			continue
		}
		count := &offered
		if e.Yanked != "" {
			count = &withdrawn
		}
		if offered == rel.DeltaFrom {
			break
		}
		if *count < rel.DeltaFrom {
			*count++
			below = append(below, e)
		}
	}
	return below, nil
}

// olders lists the binaries of the bases. One that is not there any more is
// passed over, and so is a withdrawn release that is damaged: it could not be
// published again.
func (r *Repository) olders(ctx context.Context, x *Index, rel Release, e *encoder) ([]older, error) {
	bases, err := x.bases(rel)
	if err != nil {
		return nil, err
	}
	var found []older
	for _, base := range bases {
		m, err := r.known(base)
		if err != nil && base.Yanked != "" {
			e.tell("no delta from %s, which was withdrawn: its manifest is missing or damaged", base.Version)
			continue
		}
		if err != nil {
			return nil, err
		}
		o, err := m.Platform(e.platform.OS, e.platform.Arch)
		if err != nil || o.SHA256 == e.platform.SHA256 || slices.ContainsFunc(found, func(f older) bool { return f.sha256 == o.SHA256 }) {
			continue
		}
		path := r.file(blobPath(o.SHA256))
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if base.Yanked != "" {
			whole, err := form{from: o.SHA256, old: path}.openOld(ctx)
			if errors.Is(err, ErrDigest) {
				e.tell("no delta from %s, which was withdrawn: %v", base.Version, err)
				continue
			}
			if err != nil {
				return nil, err
			}
			if err := whole.Close(); err != nil {
				return nil, err
			}
		}
		found = append(found, older{version: base.Version, sha256: o.SHA256, path: path})
	}
	return found, nil
}

// differs are what deltas are made with.
func (e *encoder) differs() []Differ { return append([]Differ{zstdDiffer{}}, e.cfg.Differs...) }

// binary is where the platform's own binary lies.
func (e *encoder) binary() string { return filepath.Join(e.dir, e.platform.SHA256) }

// compress adds the zstd form.
func (e *encoder) compress(ctx context.Context) error {
	in, err := os.Open(e.binary())
	if err != nil {
		return err
	}
	made, err := e.store(ctx, form{Encoding: Encoding{Format: FormatZstd}}, e.platform.Size, func(w io.Writer) error {
		return encodeZstd(ctx, w, in, nil, e.platform.Size)
	})
	if err = errors.Join(err, in.Close()); err != nil || made == nil {
		return err
	}
	e.platform.Encodings = append(e.platform.Encodings, *made)
	e.tell("zstd has %d of %d bytes", made.Size, e.platform.Size)
	return nil
}

// diff adds the deltas from one older binary that are smaller than the whole
// compressed.
func (e *encoder) diff(ctx context.Context, from older) error {
	f := form{from: from.sha256, old: from.path}
	old, err := f.readOld(ctx)
	if err != nil {
		return err
	}
	current, err := form{from: e.platform.SHA256, old: e.binary()}.readOld(ctx)
	if err != nil {
		return err
	}
	below := e.platform.Size
	for _, whole := range e.platform.Encodings {
		below = min(below, whole.Size)
	}
	for _, differ := range e.differs() {
		f.Format = differ.Format()
		made, err := e.store(ctx, f, below, func(w io.Writer) error { return differ.Diff(ctx, w, old, current) })
		if errors.Is(err, errors.ErrUnsupported) {
			e.tell("no delta from %s: %v", from.version, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Format, err)
		}
		if made == nil {
			e.tell("no %s delta from %s: it is no smaller than the whole", f.Format, from.version)
			continue
		}
		e.platform.Deltas = append(e.platform.Deltas, Delta{Encoding: *made, From: from.sha256})
		e.tell("%s delta from %s has %d of %d bytes", f.Format, from.version, made.Size, e.platform.Size)
	}
	return nil
}

// store has a form written, tries it as an agent would, and puts it in place
// if it has fewer than below bytes; otherwise it returns nil.
func (e *encoder) store(ctx context.Context, f form, below int64, write func(io.Writer) error) (made *Encoding, err error) {
	tmp, err := os.CreateTemp(e.dir, atomicfile.TempPrefix+"blob-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if made == nil {
			err = errors.Join(err, removeAll([]string{tmp.Name()}))
		}
	}()
	sum := sha256.New()
	err = write(io.MultiWriter(tmp, sum))
	if err == nil {
		err = errors.Join(tmp.Chmod(0o644), tmp.Sync())
	}
	size, seekErr := tmp.Seek(0, io.SeekCurrent)
	if err = errors.Join(err, seekErr, tmp.Close()); err != nil || size >= below {
		return nil, err
	}
	f.Size, f.SHA256 = size, hex.EncodeToString(sum.Sum(nil))
	if err := e.try(ctx, f, tmp.Name()); err != nil {
		return nil, err
	}
	if err := atomicfile.Rename(tmp.Name(), filepath.Join(e.dir, f.SHA256)); err != nil {
		return nil, err
	}
	return &f.Encoding, nil
}

// try decodes a form with the limits of an agent.
func (e *encoder) try(ctx context.Context, f form, path string) error {
	sum := sha256.New()
	if err := f.decodeTo(ctx, sum, path, e.platform.Size); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != e.platform.SHA256 {
		return fmt.Errorf("%w: %s decodes to sha256:%s, the binary is sha256:%s: this is a defect of what made it", ErrDigest, f, got, e.platform.SHA256)
	}
	return nil
}

// zstdDiffer makes what zstd --patch-from makes.
type zstdDiffer struct{}

// Format implements Differ.
func (zstdDiffer) Format() string { return FormatZstd }

// Diff implements Differ.
func (zstdDiffer) Diff(ctx context.Context, w io.Writer, old, current []byte) error {
	// The older binary must stay in reach to the end of the newer one.
	if size := int64(max(len(old), len(current))); size > maxDeltaWindow {
		return fmt.Errorf("zstd delta of a binary of %d bytes, at most %d: %w", size, int64(maxDeltaWindow), errors.ErrUnsupported)
	}
	return encodeZstd(ctx, w, bytes.NewReader(current), old, int64(len(current)))
}
