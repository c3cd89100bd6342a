package release

import (
	"bytes"
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
