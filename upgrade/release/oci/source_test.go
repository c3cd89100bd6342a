package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
)

func TestHostsGetTheReleaseThatWasPushed(t *testing.T) {
	t.Parallel()
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			location := p.location(t)
			f := newFixture(t)
			first := f.publish("1.0.0")
			f.push(PushConfig{Target: Config{Location: location}})
			plus := f.publish("1.1.0+build.5")
			pushed := f.push(PushConfig{Target: Config{Location: location}})
			if got := pushed.Releases; len(got) != 2 || got[0].Tag != "1.0.0" || got[1].Tag != "" {
				t.Errorf("releases %+v, want a tag for 1.0.0 and none for a version with build metadata", got)
			}
			src := source(t, Config{Location: location})
			for _, pin := range []release.Pin{first, plus} {
				if got, err := f.fetch(src, pin); err != nil || !bytes.Equal(got, content(pin.Version)) {
					t.Errorf("%s: %d bytes, %v", pin.Version, len(got), err)
				}
			}
			if err := f.repository().Yank(t.Context(), "agentd", "1.0.0", "loses records"); err != nil {
				t.Fatal(err)
			}
			f.push(PushConfig{Target: Config{Location: location}})
			if _, err := f.fetch(src, first); !errors.Is(err, release.ErrYanked) {
				t.Errorf("after a yank was pushed: %v, want ErrYanked", err)
			}
		})
	}
}

func TestSecondPushSendsOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			location := p.location(t)
			f := newFixture(t)
			f.publish("1.0.0")
			var last Progress
			first := f.push(PushConfig{Target: Config{Location: location}, Progress: func(p Progress) {
				if p.Done < last.Done || p.Done > p.Total {
					t.Errorf("progress %+v after %+v", p, last)
				}
				last = p
			}})
			if last.Done != last.Total || last.Total == 0 || first.Sent == 0 {
				t.Errorf("progress ends at %+v, sent %d", last, first.Sent)
			}
			if again := f.push(PushConfig{Target: Config{Location: location}}); again.Sent != 0 || again.Sequence != 1 {
				t.Errorf("the same again sent %d blobs (index %d), want none", again.Sent, again.Sequence)
			}
			f.publish("1.1.0")
			// Two binaries, a manifest with its signature, the index and its
			// signature, which is the same in both places.
			if third := f.push(PushConfig{Target: Config{Location: location}}); third.Sent != 6 {
				t.Errorf("another release sent %d blobs, want 6", third.Sent)
			}
		})
	}
}

func TestBlobsAreReadFromAnyOffsetAndAbsentFilesAreAbsent(t *testing.T) {
	t.Parallel()
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			location := p.location(t)
			src := source(t, Config{Location: location})
			if _, _, err := src.Open(t.Context(), indexPath, 0); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("empty: %v, want fs.ErrNotExist", err)
			}
			f := newFixture(t)
			pin := f.publish("1.0.0")
			f.push(PushConfig{Target: Config{Location: location}})
			m, _, _, err := f.client(src).Manifest(t.Context(), pin)
			if err != nil {
				t.Fatal(err)
			}
			here, err := m.Here()
			if err != nil {
				t.Fatal(err)
			}
			data := content("1.0.0")
			for _, offset := range []int64{0, 1, 300_001, here.Size - 1, here.Size} {
				body, total, err := src.Open(t.Context(), "blobs/sha256/"+here.SHA256, offset)
				if err != nil {
					t.Errorf("from %d: %v", offset, err)
					continue
				}
				got, err := io.ReadAll(body)
				if err = errors.Join(err, body.Close()); err != nil || total != here.Size || !bytes.Equal(got, data[offset:]) {
					t.Errorf("from %d: %d bytes of %d, %v", offset, len(got), total, err)
				}
			}
			for _, path := range []string{"none.json", "blobs/sha256/" + strings.Repeat("0", 64), manifestDir + strings.Repeat("0", 64) + ".json", "blobs/sha256/short", "indexes/sha256/x.minisig"} {
				if _, _, err := src.Open(t.Context(), path, 0); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: %v, want fs.ErrNotExist", path, err)
				}
			}
			for _, path := range []string{"../x", "/etc/passwd", ".", "a/../b", "index.json?x", "blobs/sha256/%2e"} {
				if _, _, err := src.Open(t.Context(), path, 0); err == nil || !strings.Contains(err.Error(), "no path inside") {
					t.Errorf("%s: %v, want it refused", path, err)
				}
			}
		})
	}
}

func TestStaleDirectoryDoesNotUndoWhatOthersPushed(t *testing.T) {
	t.Parallel()
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			location := p.location(t)
			f := newFixture(t)
			f.publish("1.0.0")
			old := filepath.Join(t.TempDir(), "old")
			if err := os.CopyFS(old, os.DirFS(f.dir)); err != nil {
				t.Fatal(err)
			}
			f.publish("1.1.0")
			f.push(PushConfig{Target: Config{Location: location}})
			_, err := Push(t.Context(), PushConfig{Dir: old, Target: Config{Location: location}})
			if !errors.Is(err, release.ErrReplay) {
				t.Errorf("push of index 1 over index 2: %v, want ErrReplay", err)
			}
			other := newFixture(t)
			other.publishAs("otherd", "1.0.0")
			_, err = Push(t.Context(), PushConfig{Dir: other.dir, Target: Config{Location: location}})
			says(t, err, "otherd", "repository of its own")
			_, err = Push(t.Context(), PushConfig{Dir: t.TempDir(), Target: Config{Location: location}})
			if !errors.Is(err, release.ErrNotFound) {
				t.Errorf("push of an empty directory: %v, want ErrNotFound", err)
			}
		})
	}
}

// TestReadersOfALiveRegistry is where a signature of one state could meet the
// index of another.
func TestReadersDuringAPushSeeAWholeState(t *testing.T) {
	location := schemeLayout + filepath.Join(t.TempDir(), "layout")
	f := newFixture(t)
	f.publish("1.0.0")
	f.push(PushConfig{Target: Config{Location: location}})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	src := source(t, Config{Location: location})
	go func() {
		for ctx.Err() == nil {
			if _, err := f.client(src).Index(context.Background()); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for _, v := range []string{"1.1.0", "1.2.0", "1.3.0", "1.4.0"} {
		f.publish(v)
		f.push(PushConfig{Target: Config{Location: location}})
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
