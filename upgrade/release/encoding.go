package release

import (
	"fmt"

	"github.com/perennial-go/perennial/internal/ident"
)

// Formats in which a binary can be fetched. A reader passes over the ones
// that it does not know: the binary itself is always there.
const (
	// FormatZstd is a zstd stream (RFC 8878); as a delta one whose dictionary
	// is the whole of the older binary, as zstd --patch-from makes it.
	FormatZstd = "zstd"
	// FormatBSDiff is a patch of Colin Percival's bsdiff, BSDIFF40.
	FormatBSDiff = "bsdiff"
)

// More than these of one platform are refused.
const (
	maxEncodings = 16
	maxDeltas    = 64
)

// Encoding is a smaller form of a whole binary.
type Encoding struct {
	// Format is one of the Format constants, or one of a later release.
	Format string `json:"format"`
	// SHA256 is the lower-case hexadecimal digest of the encoded bytes.
	SHA256 string `json:"sha256"`
	// Size is their number.
	Size int64 `json:"size"`
}

// Delta is what makes the binary of another one.
type Delta struct {
	Encoding
	// From is the lower-case hexadecimal SHA-256 of the other binary.
	From string `json:"from"`
}

func (e Encoding) validate() error {
	if len(e.Format) > 32 || !ident.Valid(e.Format, "-") {
		return fmt.Errorf("format %.80q: want 1 to 32 letters, digits and hyphens", e.Format)
	}
	if !ident.SHA256(e.SHA256) {
		return fmt.Errorf("sha256 %.80q is not 64 lower-case hexadecimal digits", e.SHA256)
	}
	if e.Size < 1 || e.Size > MaxBinarySize {
		return fmt.Errorf("size %d is not between 1 and %d", e.Size, int64(MaxBinarySize))
	}
	return nil
}

func (d Delta) validate() error {
	if !ident.SHA256(d.From) {
		return fmt.Errorf("from %.80q is not 64 lower-case hexadecimal digits", d.From)
	}
	return d.Encoding.validate()
}
