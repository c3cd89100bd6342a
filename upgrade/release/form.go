package release

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/perennial-go/perennial/internal/memory"
)

// FormatPlain names the binary as it is, where one of the Format constants
// may stand.
const FormatPlain = "plain"

// errEncoding: bytes that are the signed ones do not decode to the binary.
var errEncoding = errors.New("encoding is of no use")

// form is one way to get at a binary: as it is, as a smaller form of the
// whole, or as a delta from a binary that is here already.
type form struct {
	Encoding
	from string // digest of the other binary; "" for a whole one
	old  string // its path
}

// String names the form for people.
func (f form) String() string {
	if f.from == "" {
		return f.Format
	}
	return fmt.Sprintf("%s from %.12s", f.Format, f.from)
}

func (f form) plain() bool { return f.Format == FormatPlain }

// path is where the form's bytes arrive. Its name tells one form from the
// other, so that what an interrupted call left is never taken up as another.
func (f form) path(dst string) string {
	if f.plain() {
		return dst + UnverifiedSuffix
	}
	return fmt.Sprintf("%s.%s-%.12s%s", dst, f.Format, f.SHA256, UnverifiedSuffix)
}

// forms lists the ways to get at a platform's binary that this release
// understands, the fewest bytes first and the binary itself last. old holds
// the paths of the binaries that are here by digest.
func (p Platform) forms(old map[string]string) []form {
	var all []form
	for _, e := range p.Encodings {
		if e.Format == FormatZstd {
			all = append(all, form{Encoding: e})
		}
	}
	for _, d := range p.Deltas {
		path, here := old[d.From]
		if here && d.From != p.SHA256 && (d.Format == FormatZstd || d.Format == FormatBSDiff) {
			all = append(all, form{Encoding: d.Encoding, from: d.From, old: path})
		}
	}
	all = slices.DeleteFunc(all, func(f form) bool { return f.Size >= p.Size })
	slices.SortStableFunc(all, func(a, b form) int { return cmp.Compare(a.Size, b.Size) })
	return append(all, form{Encoding: Encoding{Format: FormatPlain, SHA256: p.SHA256, Size: p.Size}})
}

// needs is the memory that decoding f to size bytes takes at most, as
// docs/formats.md has it.
func (f form) needs(size int64) (int64, error) {
	if f.from == "" {
		if f.plain() {
			return 0, nil
		}
		return maxWindow + decoderOverhead, nil
	}
	info, err := os.Stat(f.old)
	if err != nil {
		return 0, fmt.Errorf("the older binary: %w", err)
	}
	if f.Format == FormatZstd {
		return info.Size() + deltaWindow(max(info.Size(), size)) + decoderOverhead, nil
	}
	// The patcher reads the older binary in chunks of growing size, which are
	// half as long again at worst, and then joins them.
	return info.Size()*5/2 + size + f.Size + 2*decoderOverhead, nil
}

// checkMemory refuses a delta that takes more than limit bytes. A limit of 0
// is half of what is free, and 256 MiB at most; below 0 there are no deltas.
func (f form) checkMemory(size, limit int64) error {
	if f.from == "" {
		return nil // a few MiB
	}
	if limit < 0 {
		return fmt.Errorf("%w: the memory limit allows no deltas", memory.ErrNotEnough)
	}
	need, err := f.needs(size)
	if err != nil {
		return err
	}
	allowed := memory.Free{Bytes: limit, Where: "the memory limit for deltas"}
	if limit == 0 {
		allowed.Bytes = defaultMemoryLimit
		if free, err := memory.Now(); err == nil && free.Bytes/2 < allowed.Bytes {
			allowed = memory.Free{Bytes: free.Bytes / 2, Where: "half of " + free.Where}
		}
	}
	return allowed.Check(need)
}

// leftovers are the paths at which forms of p arrive beside dst.
func (p Platform) leftovers(dst string) []string {
	paths := map[string]bool{dst + UnverifiedSuffix: true, dst + decodedSuffix: true}
	for _, e := range p.Encodings {
		paths[form{Encoding: e}.path(dst)] = true
	}
	for _, d := range p.Deltas {
		paths[form{Encoding: d.Encoding, from: d.From}.path(dst)] = true
	}
	return slices.Sorted(maps.Keys(paths))
}
