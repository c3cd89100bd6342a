package lastgood_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/lastgood"
	"github.com/perennial-go/perennial/internal/waittest"
)

// rig is a part of two files whose value is what they hold, and which is not
// in order where that has "bad" in it.
type rig struct {
	*testing.T
	*lastgood.Part[string]
	paths []string
	reads int
	fails error // what reading gives, whatever is in the files
}

func newRig(t *testing.T, texts ...string) *rig {
	t.Helper()
	r := &rig{T: t}
	for i, text := range texts {
		r.paths = append(r.paths, filepath.Join(t.TempDir(), "file"))
		r.put(i, text)
	}
	r.Part = lastgood.New(func(string) (string, error) {
		r.reads++
		var all []string
		for _, path := range r.paths {
			data, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			all = append(all, string(data))
		}
		text := strings.Join(all, "+")
		if strings.Contains(text, "bad") {
			return "", errors.New("found bad")
		}
		return text, r.fails
	}, func(a, b string) bool { return a == b }, r.paths...)
	return r
}

func (r *rig) put(i int, text string) {
	r.Helper()
	if err := os.WriteFile(r.paths[i], []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
}

// old gives the files an age at which their times tell versions apart.
func (r *rig) old() {
	r.Helper()
	then := time.Now().Add(-time.Hour)
	for _, path := range r.paths {
		if err := os.Chtimes(path, then, then); err != nil {
			r.Fatal(err)
		}
	}
}

func (r *rig) is(want string, wantChanges int, says string) {
	r.Helper()
	got, changes, err := r.Current()
	if got != want || changes != wantChanges || (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
		r.Errorf("got %q, %d changes, %v; want %q, %d, %q", got, changes, err, want, wantChanges, says)
	}
}

func TestBadFileLeavesTheLastGoodValueAndSaysSo(t *testing.T) {
	r := newRig(t, "a", "b")
	r.is("a+b", 1, "")
	r.put(1, "bad")
	r.is("a+b", 1, "found bad")
	if err := os.Remove(r.paths[0]); err != nil {
		t.Fatal(err)
	}
	r.is("a+b", 1, "no such file")
	r.put(0, "c")
	r.put(1, "d")
	r.is("c+d", 2, "")
	r.put(1, "d") // another file of the same content is no change
	r.is("c+d", 2, "")
}

// TestFilesThatDoNotChangeAreReadOnce: calls come by the hundred a second.
func TestFilesThatDoNotChangeAreReadOnce(t *testing.T) {
	r := newRig(t, "a")
	r.old()
	for range 100 {
		r.is("a", 1, "")
	}
	if r.reads != 1 {
		t.Errorf("the file was read %d times, want once", r.reads)
	}
}

// TestReplacementWithinTheClockOfTheFileSystemIsSeen: of the same size, and at
// what may be the same time.
func TestReplacementWithinTheClockOfTheFileSystemIsSeen(t *testing.T) {
	r := newRig(t, "a")
	now := time.Now()
	for i, text := range []string{"b", "c", "d"} {
		r.put(0, text)
		if err := os.Chtimes(r.paths[0], now, now); err != nil {
			t.Fatal(err)
		}
		r.is(text, i+1, "")
	}
}

// TestErrorThatPassesWithoutAChangeOfTheFileIsForgotten: a key that nobody can
// read has its mode put right, and a lack of descriptors passes by itself. A
// value that was taken away would stay in force for ever.
func TestErrorThatPassesWithoutAChangeOfTheFileIsForgotten(t *testing.T) {
	r := newRig(t, "a")
	r.is("a", 1, "")
	r.put(0, "b")
	r.old()
	r.fails = errors.New("too many open files")
	before := r.reads
	for range 10 {
		r.is("a", 1, "too many")
	}
	if n := r.reads - before; n > 5 { // one a second, however slow this is
		t.Errorf("with an error the file was read %d times for 10 calls", n)
	}
	r.fails = nil
	waittest.Until(t, "the new value is in force", func() bool { v, _, err := r.Current(); return v == "b" && err == nil })
}

func TestWithoutFilesThereIsNoValue(t *testing.T) {
	p := lastgood.New(func(string) (string, error) { return "", errors.New("was read") }, func(a, b string) bool { return a == b })
	if v, n, err := p.Current(); v != "" || n != 0 || err != nil {
		t.Errorf("got %q, %d, %v", v, n, err)
	}
}
