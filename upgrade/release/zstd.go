package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/klauspost/compress/zstd"

	"github.com/perennial-go/perennial/internal/ctxio"
)

const (
	// maxWindow bounds the memory for a whole binary. It is what RFC 8878
	// recommends to support, and what levels up to 19 use.
	maxWindow = 8 << 20
	// maxDeltaWindow is the largest window that the library has.
	maxDeltaWindow = zstd.MaxWindowSize
	// decoderOverhead is what a decoder takes beside window and dictionary.
	decoderOverhead = 8 << 20
	// defaultMemoryLimit bounds the memory for a delta.
	defaultMemoryLimit = 256 << 20
)

// deltaWindow is the window in which the whole of an older binary is in reach
// to the end of a newer one, size being the longer of both: a power of two
// above it. The zstd command chooses the same for --patch-from.
func deltaWindow(size int64) int64 {
	return min(max(int64(1)<<bits.Len64(uint64(size)), 1<<20), maxDeltaWindow) //nolint:gosec // sizes are positive
}

// decodeZstd writes what r stands for, old being the dictionary if it is not
// nil. Frames that want a window of more than window bytes are refused before
// memory is taken for it; how much comes out is the writer's to bound.
func decodeZstd(w io.Writer, r io.Reader, old []byte, window int64) error {
	options := []zstd.DOption{
		// With one goroutine there are no blocks in flight beside the window.
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(window)), //nolint:gosec // 1 MiB at least
	}
	if old != nil {
		options = append(options, zstd.WithDecoderDictRaw(0, old))
	}
	d, err := zstd.NewReader(r, options...)
	if err != nil {
		return fmt.Errorf("%w: zstd: %w", errEncoding, err)
	}
	defer d.Close()
	_, err = io.Copy(w, d)
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("%w: it wants a zstd window of more than %d bytes: %w", errEncoding, window, err)
	case err != nil:
		return fmt.Errorf("zstd: %w", err)
	}
	return nil
}

// encodeZstd writes a zstd frame of r, which holds size bytes; as a delta if
// old is not nil. The same input gives the same bytes.
func encodeZstd(ctx context.Context, w io.Writer, r io.Reader, old []byte, size int64) error {
	options := []zstd.EOption{
		// One goroutine and one level: what the frame looks like must not
		// depend on the machine.
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(maxWindow),
	}
	if old != nil {
		window := deltaWindow(max(int64(len(old)), size))
		options = append(options, zstd.WithEncoderDictRaw(0, old), zstd.WithWindowSize(int(window)))
	}
	e, err := zstd.NewWriter(w, options...)
	if err != nil {
		return fmt.Errorf("zstd: %w", err)
	}
	_, err = e.ReadFrom(ctxio.Reader(ctx, r))
	if err = errors.Join(err, e.Close()); err != nil {
		return fmt.Errorf("zstd: %w", err)
	}
	return nil
}
