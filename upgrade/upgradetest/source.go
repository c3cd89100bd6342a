package upgradetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// Password is what serve is to use wherever a source takes a secret: it must
// not be found in what the source says.
const Password = "hunter2-correct-horse"

// TestSource checks that a source keeps the contract of release.Source. serve
// returns a source that has exactly these files, by their paths in a
// repository; they are those of a signed repository with one release, and an
// empty one under its digest. What serve starts ends with the test that it is
// given.
func TestSource(t *testing.T, serve func(t *testing.T, files map[string][]byte) release.Source) {
	t.Helper()
	files := repository(t, generateKey(t), t.TempDir(), "1.0.0")
	files[emptyPath] = []byte{}
	for _, test := range []struct {
		name string
		run  func(*contract, *testing.T)
	}{
		{"whole files are what was stored", (*contract).whole},
		{"reading from an offset starts there", (*contract).offsets},
		{"an offset at or past the end gives no byte", (*contract).pastEnd},
		{"an absent file is fs.ErrNotExist", (*contract).absent},
		{"a path that leaves the repository is refused", (*contract).invalid},
		{"buffers of any size read the same", (*contract).buffers},
		{"concurrent readers do not disturb one another", (*contract).concurrent},
		{"a context that has ended opens nothing", (*contract).endedBefore},
		{"a context that ends ends the reader", (*contract).endedDuring},
		{"a reader may be closed early", (*contract).closeEarly},
		{"a reader that has ended stays ended", (*contract).staysEnded},
		{"the name shows no credentials", (*contract).name},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &contract{source: serve(t, files), files: files}
			// The server still runs afterwards: its end would end what the
			// source has left behind.
			before := runtime.NumGoroutine()
			test.run(c, t)
			waittest.Until(t, "the source has ended its goroutines", func() bool { return runtime.NumGoroutine() <= before })
		})
	}
}

// contract is a source and what it has.
type contract struct {
	source release.Source
	files  map[string][]byte
}

// large returns the path of the largest file.
func (c *contract) large() (path string) {
	for p, data := range c.files {
		if path == "" || len(data) > len(c.files[path]) {
			path = p
		}
	}
	return path
}

// read reads all of path from offset on, and checks the total.
func (c *contract) read(ctx context.Context, path string, offset int64) ([]byte, error) {
	body, total, err := c.source.Open(ctx, path, offset)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(body)
	err = errors.Join(err, body.Close())
	if want := int64(len(c.files[path])); err == nil && total != want && total != -1 {
		err = fmt.Errorf("the total is %d, want %d or -1", total, want)
	}
	return data, err
}

func (c *contract) same(ctx context.Context, path string, offset int64) error {
	got, err := c.read(ctx, path, offset)
	if want := c.files[path][offset:]; err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%d bytes that are not the %d that were stored", len(got), len(want))
	}
	if err != nil {
		return fmt.Errorf("%s from %d: %w", path, offset, err)
	}
	return nil
}

func (c *contract) whole(t *testing.T) {
	for _, time := range []string{"first", "second"} { // a cache answers differently
		for path := range c.files {
			if err := c.same(t.Context(), path, 0); err != nil {
				t.Errorf("%s time: %v", time, err)
			}
		}
	}
}

func (c *contract) offsets(t *testing.T) {
	for path, data := range c.files {
		for _, offset := range []int{1, len(data) / 2, len(data) - 1} {
			if offset <= 0 || offset >= len(data) {
				continue
			}
			if err := c.same(t.Context(), path, int64(offset)); err != nil {
				t.Error(err)
			}
		}
	}
	if body, _, err := c.source.Open(t.Context(), c.large(), -1); err == nil {
		t.Errorf("offset -1 was opened: %v", body.Close())
	}
}

func (c *contract) pastEnd(t *testing.T) {
	for path, data := range c.files {
		for _, past := range []int{0, 1, 1000} {
			// At the end io.EOF comes; past it an error is as good.
			got, err := c.read(t.Context(), path, int64(len(data)+past))
			if len(got) > 0 || (past == 0 && err != nil) {
				t.Errorf("%s from %d past its end: %d bytes, %v", path, past, len(got), err)
			}
		}
	}
}

func (c *contract) absent(t *testing.T) {
	for _, path := range []string{
		"none.json", "index.json.minisig.minisig", blobPath([]byte("absent")),
		strings.Replace(blobPath([]byte("absent")), "blobs", "manifests", 1) + ".json",
		"blobs/sha256/none", "no/such/directory/file",
	} {
		for _, offset := range []int64{0, 10} {
			body, _, err := c.source.Open(t.Context(), path, offset)
			if err == nil {
				err = errors.Join(errors.New("it was opened"), body.Close())
			}
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v, want fs.ErrNotExist", path, err)
			}
		}
	}
}

func (c *contract) invalid(t *testing.T) {
	for _, path := range []string{
		"", ".", "..", "/", "/index.json", "../index.json", "blobs/../index.json", "./index.json", "index.json/",
		"//index.json", "blobs//sha256", "..\\index.json", "blobs/%2e%2e/index.json", "index.json?x=1", "index.json#x", "index.json\x00",
	} {
		if body, _, err := c.source.Open(t.Context(), path, 0); err == nil {
			t.Errorf("%q was opened: %v", path, body.Close())
		}
	}
}

func (c *contract) buffers(t *testing.T) {
	path := c.large()
	want := c.files[path]
	body, _, err := c.source.Open(t.Context(), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	var got []byte
	sizes := []int{1, 0, 2, 7, 4096, 65_537, 1 << 20}
	for i := 0; ; i++ {
		b := make([]byte, sizes[i%len(sizes)])
		n, err := body.Read(b)
		if n < 0 || n > len(b) {
			t.Fatalf("Read of %d bytes returned %d", len(b), n)
		}
		got = append(got, b[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes that are not the %d that were stored", len(got), len(want))
	}
}

func (c *contract) concurrent(t *testing.T) {
	var readers errgroup.Group
	large := c.large()
	for i := range 4 {
		for path, data := range c.files {
			readers.Go(func() error { return c.same(t.Context(), path, int64(len(data)*i/4)) })
		}
		readers.Go(func() error { return c.same(t.Context(), large, 0) })
	}
	if err := readers.Wait(); err != nil {
		t.Error(err)
	}
}

func (c *contract) endedBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for path := range c.files {
		body, _, err := c.source.Open(ctx, path, 0)
		if err == nil { // it may also be the first Read that tells
			_, err = io.ReadAll(body)
			err = errors.Join(err, body.Close())
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", path, err)
		}
	}
}

func (c *contract) endedDuring(t *testing.T) {
	for _, cached := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		body, _, err := c.source.Open(ctx, c.large(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(body, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		cancel()
		n, err := io.Copy(io.Discard, body)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %d more bytes: %v, want context.Canceled", n, err)
		}
		_ = body.Close() // may tell of the end as well
		// The end of one reader is not that of the source.
		if err := c.same(t.Context(), c.large(), 0); err != nil {
			t.Errorf("after a reader was ended (cached: %v): %v", cached, err)
		}
	}
}

func (c *contract) closeEarly(t *testing.T) {
	for _, length := range []int{0, 1, 100_000} {
		body, _, err := c.source.Open(t.Context(), c.large(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(body, make([]byte, length)); err != nil {
			t.Fatal(err)
		}
		if err := body.Close(); err != nil {
			t.Errorf("closed after %d bytes: %v", length, err)
		}
		if n, err := body.Read(make([]byte, 10)); n > 0 || err == nil {
			t.Errorf("read after Close: %d bytes, %v", n, err)
		}
	}
	if err := c.same(t.Context(), c.large(), 0); err != nil {
		t.Errorf("after readers were closed early: %v", err)
	}
}

func (c *contract) staysEnded(t *testing.T) {
	for path := range c.files {
		body, _, err := c.source.Open(t.Context(), path, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if n, err := body.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("%s: after its end %d bytes, %v", path, n, err)
			}
		}
		if err := body.Close(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func (c *contract) name(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	said := []string{c.source.String(), fmt.Sprint(c.source)}
	for _, path := range []string{"none.json", "../x", blobPath([]byte("absent"))} {
		for _, ctx := range []context.Context{t.Context(), ctx} {
			if _, _, err := c.source.Open(ctx, path, 0); err != nil {
				said = append(said, err.Error())
			}
		}
	}
	if said[0] == "" || slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, Password) }) {
		t.Errorf("the source is called %q and says %q", said[0], said[1:])
	}
}
