package upgradetest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
)

// TestSourceFollows checks a source whose files are replaced while it is in
// use, as a publisher replaces the index: who opens a file then reads the new
// one, and who has begun with the old one reads it to its end or fails, but
// never reads some of each. serve is that of TestSource, and returns besides
// what replaces files by others and adds those that are new.
func TestSourceFollows(t *testing.T, serve func(t *testing.T, files map[string][]byte) (src release.Source, replace func(files map[string][]byte))) {
	t.Helper()
	key, dir := generateKey(t), t.TempDir()
	before := repository(t, key, dir, "1.0.0")
	after := repository(t, key, dir, "1.0.0", "1.1.0")

	t.Run("a replaced index is seen", func(t *testing.T) {
		source, replace := serve(t, before)
		old := &contract{source: source, files: before}
		if err := old.same(t.Context(), "index.json", 0); err != nil {
			t.Fatal(err)
		}
		replace(after)
		next := &contract{source: source, files: after}
		for path := range after {
			if err := next.same(t.Context(), path, 0); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("a file that is replaced while it is read is not mixed", func(t *testing.T) {
		// A large file of a fixed name is none of a repository, but shows
		// what a small one would only show rarely.
		was, becomes := noise(7, largeSize), noise(8, largeSize)
		with := map[string][]byte{"index.json": was}
		source, replace := serve(t, with)
		body, _, err := source.Open(t.Context(), "index.json", 0)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100_000)
		if _, err := io.ReadFull(body, got); err != nil {
			t.Fatal(err)
		}
		replace(map[string][]byte{"index.json": becomes})
		rest, err := io.ReadAll(body)
		if err == nil && !bytes.Equal(slices.Concat(got, rest), was) {
			t.Error("the file was put together from two")
		}
		if err = errors.Join(err, body.Close()); err != nil {
			t.Logf("it was refused: %v", err)
		}
	})
}
