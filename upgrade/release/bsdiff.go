package release

import (
	"compress/bzip2"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/minio/selfupdate"

	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/internal/ctxio"
)

const (
	bsdiffMagic  = "BSDIFF40"
	bsdiffHeader = 32
	// bsdiffIdle is how many steps may make nothing, beside one for each 64
	// bytes of the binary. bsdiff makes some where matches overlap; without a
	// bound, a few kilobytes of them take hours.
	bsdiffIdle = 4096
)

// patch writes to w what the bsdiff patch makes of the older binary.
func (f form) patch(ctx context.Context, w io.Writer, patch *os.File, size int64) (err error) {
	if err := checkBSDiff(patch, f.Size, size); err != nil {
		return err
	}
	old, err := f.openOld(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	return applyBSDiff(ctxio.Reader(ctx, old), w, ctxio.Reader(ctx, io.NewSectionReader(patch, 0, f.Size)))
}

// applyBSDiff applies a patch that has been checked.
func applyBSDiff(old io.Reader, w io.Writer, patch io.Reader) (err error) {
	defer func() {
		// The patcher panics on steps that lead outside. checkBSDiff lets none
		// pass; should it be wrong, that must not end the host program.
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: bsdiff: %v", errEncoding, p)
		}
	}()
	if err := selfupdate.NewBSDiffPatcher().Patch(old, w, patch); err != nil {
		return fmt.Errorf("bsdiff: %w", err)
	}
	return nil
}

// checkBSDiff reads the header and every step of a patch of size bytes, and
// refuses what does not make exactly want bytes.
func checkBSDiff(patch io.ReaderAt, size, want int64) error {
	var header [bsdiffHeader]byte
	if _, err := patch.ReadAt(header[:], 0); err != nil {
		return fmt.Errorf("%w: bsdiff header: %w", errEncoding, boundedio.NoEOF(err))
	}
	control, diff, made := signMagnitude(header[8:]), signMagnitude(header[16:]), signMagnitude(header[24:])
	if string(header[:8]) != bsdiffMagic {
		return fmt.Errorf("%w: it does not begin with %s", errEncoding, bsdiffMagic)
	}
	if body := size - bsdiffHeader; control < 0 || diff < 0 || control > body || diff > body-control {
		return fmt.Errorf("%w: bsdiff blocks of %d and %d bytes in a patch of %d", errEncoding, control, diff, size)
	}
	if made != want {
		return fmt.Errorf("%w: a bsdiff patch to %d bytes, signed are %d", errEncoding, made, want)
	}
	return checkSteps(bzip2.NewReader(io.NewSectionReader(patch, bsdiffHeader, control)), want)
}

func checkSteps(control io.Reader, want int64) error {
	var made int64
	for idle := int64(0); made < want; {
		var step [24]byte
		if _, err := io.ReadFull(control, step[:]); err != nil {
			return fmt.Errorf("%w: bsdiff steps end after %d of %d bytes: %w", errEncoding, made, want, boundedio.NoEOF(err))
		}
		add, insert := signMagnitude(step[:]), signMagnitude(step[8:])
		if add < 0 || insert < 0 || add > want-made || insert > want-made-add {
			return fmt.Errorf("%w: a bsdiff step of %d and %d bytes where %d are left", errEncoding, add, insert, want-made)
		}
		made += add + insert
		if add+insert > 0 {
			continue
		}
		if idle++; idle > bsdiffIdle+want/64 {
			return fmt.Errorf("%w: %d bsdiff steps that make nothing", errEncoding, idle)
		}
	}
	return nil
}

// signMagnitude reads a number as bsdiff writes it.
func signMagnitude(b []byte) int64 {
	n := binary.LittleEndian.Uint64(b)
	value := int64(n &^ (1 << 63)) //nolint:gosec // 63 bits
	if n>>63 == 1 {
		return -value
	}
	return value
}
