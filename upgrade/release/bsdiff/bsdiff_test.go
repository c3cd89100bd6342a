package bsdiff

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/minio/selfupdate"
)

// pairs are older and newer binaries of every kind.
func pairs(tb testing.TB) map[string][2][]byte {
	tb.Helper()
	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 300_000)
	_, _ = random.Read(noise)
	changed := slices.Concat(noise[100_000:200_000], noise[:50_000], []byte("inserted"), noise[50_000:])
	for i := 0; i < len(changed); i += 1000 {
		changed[i]++
	}
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		tb.Fatal(err)
	}
	self = self[:min(len(self), 1<<20)]
	zeros := make([]byte, 500_000)
	return map[string][2][]byte{
		"the same":             {noise, noise},
		"moved and changed":    {noise, changed},
		"back":                 {changed, noise},
		"from nothing":         {nil, noise},
		"to one byte":          {noise, noise[:1]},
		"one byte to another":  {{1}, {2}},
		"nothing in common":    {noise[:150_000], noise[150_000:]},
		"cut off":              {noise, noise[:123_456]},
		"longer at both ends":  {noise[1000:200_000], noise},
		"zeros":                {zeros, zeros[:400_000]},
		"zeros to noise":       {zeros, noise},
		"executable to itself": {self, slices.Concat(self[:5000], []byte{0, 1, 2, 3}, self[5000:])},
	}
}

func patchOf(tb testing.TB, old, current []byte) []byte {
	tb.Helper()
	var patch bytes.Buffer
	if err := (Differ{}).Diff(tb.Context(), &patch, old, current); err != nil {
		tb.Fatal(err)
	}
	return patch.Bytes()
}

// Agents apply patches with this patcher.
func TestPatchLeadsToTheNewerBinary(t *testing.T) {
	for name, p := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			patch := patchOf(t, p[0], p[1])
			var made bytes.Buffer
			if err := selfupdate.NewBSDiffPatcher().Patch(bytes.NewReader(p[0]), &made, bytes.NewReader(patch)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(made.Bytes(), p[1]) {
				t.Error("it leads to something else")
			}
			if again := patchOf(t, p[0], p[1]); !bytes.Equal(again, patch) {
				t.Error("the same input gave another patch: a release could not be built again")
			}
		})
	}
}

func TestPatchIsReadByTheBspatchCommand(t *testing.T) {
	bspatch, err := exec.LookPath("bspatch")
	if err != nil {
		t.Skipf("bspatch is not installed (Debian: apt-get install bsdiff): %v", err)
	}
	for name, p := range pairs(t) {
		if len(p[0]) == 0 {
			continue // bspatch refuses an empty file
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range map[string][]byte{"old": p[0], "patch": patchOf(t, p[0], p[1])} {
				if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), bspatch, "old", "new", "patch")
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if made, err := os.ReadFile(filepath.Join(dir, "new")); err != nil || !bytes.Equal(made, p[1]) {
				t.Errorf("it leads to something else (%v)", err)
			}
		})
	}
}

// A patch that is not much smaller than the binary is no use to anybody.
func TestPatchOfASmallChangeIsSmall(t *testing.T) {
	p := pairs(t)
	for name, most := range map[string]int{"the same": 250, "moved and changed": 4000, "executable to itself": 400, "zeros": 250} {
		if n := len(patchOf(t, p[name][0], p[name][1])); n > most {
			t.Errorf("%s: %d bytes, want %d at most", name, n, most)
		}
	}
}

// Suffixes come out of the standard library in a form that only its Read is
// meant for.
func TestSuffixesAreSorted(t *testing.T) {
	for name, p := range pairs(t) {
		data := p[0][:min(len(p[0]), 20_000)]
		if name == "zeros" {
			data = data[:2000]
		}
		got, err := sortSuffixes(t.Context(), data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := make([]int32, len(data))
		for i := range want {
			want[i] = int32(i)
		}
		slices.SortFunc(want, func(a, b int32) int { return bytes.Compare(data[a:], data[b:]) })
		if !slices.Equal(got, want) {
			t.Errorf("%s: the order differs", name)
		}
	}
}

func TestDiffEndsWithItsContextAndRefusesWhatIsTooLarge(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := pairs(t)["moved and changed"]
	if err := (Differ{}).Diff(ctx, &bytes.Buffer{}, p[0], p[1]); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	d, err := newDiff(nil, p[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v in the search, want context.Canceled", err)
	}
	if err := (Differ{}).Diff(t.Context(), &bytes.Buffer{}, nil, make([]byte, MaxSize+1)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("error %v, want ErrUnsupported", err)
	}
}
