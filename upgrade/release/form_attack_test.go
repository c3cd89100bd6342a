package release

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/zstd"

	"github.com/perennial-go/perennial/upgrade/release/bsdiff"
)

// offer puts bytes into the repository and describes them as signed: what
// follows is the work of who holds a key, or a defect of a publisher.
func (f *forms) offer(format string, data []byte) Encoding {
	f.tb.Helper()
	e := Encoding{Format: format, SHA256: sha256Hex(data), Size: int64(len(data))}
	f.write(f.blob(e), data)
	return e
}

// patch is a bsdiff patch of given numbers.
func patch(tb testing.TB, control, diff, size int64, steps ...int64) []byte {
	tb.Helper()
	var packed bytes.Buffer
	w, err := bzip2.NewWriter(&packed, nil)
	if err != nil {
		tb.Fatal(err)
	}
	for _, n := range steps {
		if _, err := w.Write(number(n)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	if control < 0 {
		control = int64(packed.Len())
	}
	data := []byte(bsdiffMagic)
	for _, n := range []int64{control, diff, size} {
		data = append(data, number(n)...)
	}
	return append(data, packed.Bytes()...)
}

func number(n int64) []byte {
	value := uint64(n)
	if n < 0 {
		value = uint64(-n) | 1<<63
	}
	return binary.LittleEndian.AppendUint64(nil, value)
}

// window is a zstd frame that says that it wants so much memory.
func window(log byte, single bool, size uint64) []byte {
	head := []byte{0x28, 0xb5, 0x2f, 0xfd}
	if single {
		head = binary.LittleEndian.AppendUint64(append(head, 0b1110_0000), size)
	} else {
		head = append(head, 0, (log-10)<<3)
	}
	return append(head, 0b0000_0011, 0x10, 0) // one RLE block
}

// bomb is zeros: n bytes in n/100,000.
func bomb(tb testing.TB, n int64) []byte {
	tb.Helper()
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed, zstd.WithEncoderConcurrency(1))
	if err == nil {
		_, err = io.CopyN(w, zeros{}, n)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		tb.Fatal(err)
	}
	return packed.Bytes()
}

func deltaBetween(tb testing.TB, old, current []byte) []byte {
	tb.Helper()
	var patch bytes.Buffer
	if err := (bsdiff.Differ{}).Diff(context.Background(), &patch, old, current); err != nil {
		tb.Fatal(err)
	}
	return patch.Bytes()
}

// Each of these is what a repository could hold to harm a host, or to have it
// run something else. None may reach the end, take memory or crash the agent,
// and the release must still be had.
func TestHostileFormIsRefused(t *testing.T) {
	size := int64(len(program(1)))
	repo := newForms(t)
	repo.publish(0)
	repo.publish(1)
	for name, c := range map[string]struct {
		format string
		data   []byte
		says   string
		why    error
	}{
		"arbitrary binary as zstd":                   {FormatZstd, []byte("\x7fELF something else"), "zstd", zstd.ErrMagicMismatch},
		"zstd of another binary":                     {FormatZstd, bomb(t, size), "decodes to", ErrDigest},
		"truncated encoding with the right digest":   {FormatZstd, bomb(t, size)[:20], "", io.ErrUnexpectedEOF},
		"decompression bomb":                         {FormatZstd, bomb(t, 256<<20), "more than the", errEncoding},
		"decompression bomb in bsdiff":               {FormatBSDiff, patch(t, -1, 0, size, make([]int64, 3_000_000)...), "make nothing", errEncoding},
		"giant window":                               {FormatZstd, window(41, false, 0), "window", errEncoding},
		"giant window of a single segment":           {FormatZstd, window(0, true, 1<<40), "window", errEncoding},
		"giant window of a second frame":             {FormatZstd, append(bomb(t, 10), window(0, true, 1<<34)...), "window", errEncoding},
		"arbitrary binary as bsdiff":                 {FormatBSDiff, bytes.Repeat([]byte("\x7fELF"), 20), "does not begin with BSDIFF40", errEncoding},
		"bsdiff header cut off":                      {FormatBSDiff, []byte(bsdiffMagic), "header", errEncoding},
		"forged bsdiff header, control block":        {FormatBSDiff, patch(t, math.MaxInt64, 0, size), "blocks of", errEncoding},
		"forged bsdiff header, negative block":       {FormatBSDiff, patch(t, 0, -5, size), "blocks of", errEncoding},
		"forged bsdiff header, difference block":     {FormatBSDiff, patch(t, 10, math.MaxInt64-5, size), "blocks of", errEncoding},
		"forged bsdiff header, giant result":         {FormatBSDiff, patch(t, -1, 0, 1<<50), "signed are", errEncoding},
		"forged bsdiff header, negative result":      {FormatBSDiff, patch(t, -1, 0, -size), "signed are", errEncoding},
		"bsdiff steps that end early":                {FormatBSDiff, patch(t, -1, 0, size, 10, 0, 0), "steps end after 10", errEncoding},
		"bsdiff step of negative length":             {FormatBSDiff, patch(t, -1, 0, size, -1, size, 0), "a bsdiff step of", errEncoding},
		"bsdiff step beyond the result":              {FormatBSDiff, patch(t, -1, 0, size, 0, size+1, 0), "a bsdiff step of", errEncoding},
		"bsdiff step that overflows":                 {FormatBSDiff, patch(t, -1, 0, size, 1, 0, 0, math.MaxInt64, 0, 0), "a bsdiff step of", errEncoding},
		"bsdiff step outside the older binary":       {FormatBSDiff, patch(t, -1, 0, size, 0, 0, math.MaxInt64, size, 0, 0), "bsdiff", nil},
		"bsdiff delta to another binary, same size":  {FormatBSDiff, deltaBetween(t, program(0), make([]byte, size)), "decodes to", ErrDigest},
		"bsdiff delta from another binary":           {FormatBSDiff, deltaBetween(t, program(3), program(1)), "decodes to", ErrDigest},
		"zstd delta to a binary that is too long":    {FormatZstd, bomb(t, size+1), "more than the", errEncoding},
		"bsdiff delta to a binary that is too short": {FormatBSDiff, deltaBetween(t, program(0), make([]byte, size-1)), "signed are", errEncoding},
	} {
		t.Run(name, func(t *testing.T) {
			f := repo.host(t)
			m := f.manifest(version(1))
			p := &m.Platforms[0]
			e := f.offer(c.format, c.data)
			p.Encodings, p.Deltas = nil, []Delta{{Encoding: e, From: sha256Hex(program(0))}}
			if c.format == FormatZstd {
				p.Encodings, p.Deltas = []Encoding{e}, nil
			}
			before := allocated()
			got, err := f.client(0).Fetch(t.Context(), m, f.dst, FetchOptions{Old: f.old(0)})
			if err != nil {
				t.Fatal(err)
			}
			f.wantOnly(1)
			if got.Form != FormatPlain || len(got.Passed) != 1 || !strings.Contains(got.Passed[0].Error(), c.says) || (c.why != nil && !errors.Is(got.Passed[0], c.why)) {
				t.Errorf("took %s, passed %v; want plain, and %q for %v", got.Form, got.Passed, c.says, c.why)
			}
			if took := allocated() - before; took > 100<<20 {
				t.Errorf("%d MiB of memory were taken", took>>20)
			}
		})
	}
}

func allocated() uint64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.TotalAlloc
}

// Without the right digest, none of that reaches a decoder.
func TestUnsignedBytesReachNoDecoder(t *testing.T) {
	f := newForms(t)
	f.publish(0)
	m := f.publish(1)
	size := int64(len(program(1)))
	for _, d := range m.Platforms[0].Deltas {
		forged := patch(t, math.MaxInt64, math.MaxInt64, size)
		f.write(f.blob(d.Encoding), append(forged, make([]byte, d.Size)...)[:d.Size])
	}
	zip := m.Platforms[0].Encodings[0]
	f.write(f.blob(zip), append(bomb(t, 256<<20), make([]byte, zip.Size)...)[:zip.Size])
	got, err := f.client(0).Fetch(t.Context(), m, f.dst, FetchOptions{Old: f.old(0)})
	if err != nil || got.Form != FormatPlain || len(got.Passed) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, err := range got.Passed {
		if !errors.Is(err, ErrDigest) || errors.Is(err, errEncoding) || !strings.Contains(err.Error(), "signed is") {
			t.Errorf("passed for %v, want its own digest", err)
		}
	}
	f.wantOnly(1)
}

// A host that cannot have the binary at all is left as it was.
func TestNothingIsLeftWhenNoFormWillDo(t *testing.T) {
	f := newForms(t)
	f.publish(0)
	m := f.publish(1)
	p := m.Platforms[0]
	for _, e := range []Encoding{p.Encodings[0], p.Deltas[0].Encoding, p.Deltas[1].Encoding, {SHA256: p.SHA256, Size: p.Size}} {
		f.write(f.blob(e), make([]byte, e.Size))
	}
	if _, err := f.client(0).Fetch(t.Context(), m, f.dst, FetchOptions{Old: f.old(0)}); !errors.Is(err, ErrDigest) {
		t.Errorf("error %v, want ErrDigest", err)
	}
	f.wantFiles()
}

// fuzzPatch applies data as an agent would, and fails on a panic that the
// check should have kept from the patcher.
func fuzzPatch(t *testing.T, old, data []byte, size int64) {
	t.Helper()
	if checkBSDiff(bytes.NewReader(data), int64(len(data)), size) != nil {
		return
	}
	var made bytes.Buffer
	err := applyBSDiff(bytes.NewReader(old), &made, bytes.NewReader(data))
	if errors.Is(err, errEncoding) {
		t.Errorf("a patch that was let pass: %v", err)
	}
	if err == nil && int64(made.Len()) != size {
		t.Errorf("it made %d bytes, want %d", made.Len(), size)
	}
}

func FuzzBSDiffPatch(f *testing.F) {
	old := []byte("an older binary, not very long, with some text that is in both")
	current := []byte("a newer binary, not very long, with much text that is in both")
	good := deltaBetween(f, old, current)
	f.Add(good, int64(len(current)))
	f.Add(good[:40], int64(len(current)))
	f.Add(patch(f, -1, 0, 10, 10, 0, 0), int64(10))
	f.Add(patch(f, -1, 0, 10, 1, 0, 0, math.MaxInt64, 0, 0), int64(10))
	f.Add(patch(f, math.MaxInt64, math.MaxInt64, 10), int64(10))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		if size < 1 || size > 1<<16 {
			return
		}
		fuzzPatch(t, old, data, size)
	})
}

// FuzzBSDiffSteps packs the steps itself: no fuzzer finds bzip2's checksums.
func FuzzBSDiffSteps(f *testing.F) {
	f.Add(int64(10), int64(0), int64(0), int64(20), int64(30), int64(-5))
	f.Add(int64(1), int64(0), int64(0), int64(math.MaxInt64), int64(0), int64(0))
	f.Add(int64(0), int64(0), int64(math.MinInt64), int64(60), int64(0), int64(0))
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g int64) {
		packed := patch(t, -1, 0, 60, a, b, c, d, e, g)
		fuzzPatch(t, []byte("an older binary"), packed, 60)
	})
}

func FuzzZstd(f *testing.F) {
	old := bytes.Repeat([]byte("an older binary "), 100)
	for _, from := range [][]byte{nil, old} {
		var good bytes.Buffer
		if err := encodeZstd(context.Background(), &good, bytes.NewReader(old[3:]), from, int64(len(old))); err != nil {
			f.Fatal(err)
		}
		f.Add(good.Bytes(), from != nil)
	}
	f.Add(window(41, false, 0), false)
	f.Add(window(0, true, 1<<40), true)
	f.Fuzz(func(t *testing.T, data []byte, delta bool) {
		const size = 1 << 16
		var from []byte
		if delta {
			from = old
		}
		before := allocated()
		var made bytes.Buffer
		w := &limited{w: &made, left: size}
		err := decodeZstd(w, bytes.NewReader(data), from, 1<<20)
		if made.Len() > size {
			t.Errorf("%d bytes came out, at most %d are wanted", made.Len(), size)
		}
		if took := allocated() - before; took > 64<<20 {
			t.Errorf("%d MiB of memory for %d bytes (%v)", took>>20, len(data), err)
		}
	})
}

type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, errEncoding
	}
	l.left -= len(p)
	return l.w.Write(p)
}
