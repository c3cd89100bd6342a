package release

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBinaryThatADeltaMadeCostsTheNextAgentNoByteAndNoRoom(t *testing.T) {
	f := newForms(t)
	f.publish(1)
	m := f.publish(2)
	dir := t.TempDir()
	cache, err := NewCache(CacheConfig{Dir: filepath.Join(dir, "cache"), Source: f.src})
	if err != nil {
		t.Fatal(err)
	}
	var files []os.FileInfo
	for i, want := range []struct {
		form string
		old  map[string]string
	}{{"bsdiff from", f.old(1)}, {formLinked, nil}} {
		dst := filepath.Join(dir, string(rune('a'+i)))
		got, err := f.clientOf(cache).Fetch(t.Context(), m, dst, FetchOptions{Old: want.old})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(got.Form, want.form) || (i > 0) != (got.Bytes == 0) {
			t.Errorf("agent %d: %+v, want %s", i, got, want.form)
		}
		info, err := os.Stat(dst)
		if err != nil || info.Mode().Perm() != entryMode || !bytes.Equal(f.read(dst), program(2)) {
			t.Errorf("agent %d: %v, %v: not the binary, or writable", i, info.Mode(), err)
		}
		files = append(files, info)
	}
	if !os.SameFile(files[0], files[1]) {
		t.Error("two agents have two copies")
	}
}

// A smaller form that has to be fetched is larger than one that is here.
func TestFormThatTheCacheHasIsTakenBeforeASmallerOne(t *testing.T) {
	f := newForms(t)
	f.publish(1)
	m := f.publish(2)
	dir := t.TempDir()
	cache, err := NewCache(CacheConfig{Dir: filepath.Join(dir, "cache"), Source: f.src})
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(want string, reads int, old map[string]string) {
		t.Helper()
		f.dst = filepath.Join(t.TempDir(), "agent")
		f.src.offsets = nil
		got, err := f.clientOf(cache).Fetch(t.Context(), m, f.dst, FetchOptions{Old: old})
		if err != nil || !strings.HasPrefix(got.Form, want) || len(f.src.offsets) != reads {
			t.Errorf("%+v, %v, asked for %d blobs; want %s and %d", got, err, len(f.src.offsets), want, reads)
		}
		f.wantOnly(2)
	}
	fetch(FormatZstd, 1, nil)
	cache.Drop(blobPath(m.Platforms[0].SHA256))
	fetch(FormatZstd, 0, f.old(1)) // and not the delta
	// A binary that cannot be linked to, being another user's or others' to write.
	plain := filepath.Join(dir, "cache", entryPath(m.Platforms[0].SHA256))
	for _, path := range []string{plain, filepath.Join(dir, "cache", entryPath(m.Platforms[0].Encodings[0].SHA256))} {
		if err := os.Chmod(path, 0o577); err != nil {
			t.Fatal(err)
		}
	}
	cache.Drop(blobPath(m.Platforms[0].Encodings[0].SHA256))
	fetch(FormatPlain, 0, f.old(1))
}

// What is here may be of no use, and asked for where it is not.
func TestPlainFormThatComesFirstAndFailsIsNotTheLast(t *testing.T) {
	f := newForms(t)
	m := f.publish(1)
	f.remove(f.blob(Encoding{SHA256: m.Platforms[0].SHA256}))
	got, err := f.clientOf(boasting{f.src}).Fetch(t.Context(), m, f.dst, FetchOptions{})
	if err != nil || got.Form != FormatZstd || len(got.Passed) != 1 {
		t.Errorf("%+v, %v: want zstd after plain", got, err)
	}
}

// boasting is a cache that claims to have the plain binary alone.
type boasting struct{ Source }

func (b boasting) Has(name string) bool {
	_, total, err := b.Open(context.Background(), name, 0)
	return err != nil || total > 500_000
}
func (boasting) LinkTo(string, string) error                    { return errors.ErrUnsupported }
func (boasting) LinkFrom(context.Context, string, string) error { return errors.ErrUnsupported }
func (boasting) Drop(string)                                    {}
