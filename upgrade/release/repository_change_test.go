package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/perennial-go/perennial/internal/reexec"
)

// Each of several publishers is told the reason that its own took the place of,
// and none takes another's work for a repository that was set back.
func TestWithdrawalsAtOnceAreEachToldWhatTheyReplaced(t *testing.T) {
	t.Parallel()
	const publishers, each = 3, 10
	r := newRemembering(t)
	failed := make(chan error)
	replaced := make(chan string, publishers*each)
	for i := range publishers {
		p := r.publisher(false)
		go func() {
			var err error
			for n := range each {
				before, again := p.Withdraw(t.Context(), "agentd", "1.0.0", fmt.Sprintf("reason %d of %d", n, i))
				replaced <- before
				err = errors.Join(err, again)
			}
			failed <- err
		}()
	}
	for range publishers {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	close(replaced)
	seen := map[string]bool{r.index().entry("1.0.0").Yanked: true}
	for before := range replaced {
		if seen[before] {
			t.Errorf("%q was replaced twice, or stands and was replaced", before)
		}
		seen[before] = true
	}
}

func TestNothingIsSaidOfAnIndexThatAnotherPublisherIsChanging(t *testing.T) {
	t.Parallel()
	r := newRemembering(t)
	unlock, err := r.publisher(false).lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if before, err := r.publisher(false).Withdraw(ctx, "agentd", "1.0.0", "it crashes"); !errors.Is(err, ErrLocked) || before != "" {
		t.Errorf("%q, %v, want %v", before, err, ErrLocked)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if before, err := r.publisher(false).Withdraw(t.Context(), "agentd", "1.0.0", "it crashes"); err != nil || before != "it crashes" {
		t.Errorf("%q, %v, want what it was withdrawn for", before, err)
	}
}

// What is repeated after a crash is what was asked for, which changes nothing.
func TestRepeatingWhatIsDoneMendsWhatAKilledPublisherLeft(t *testing.T) {
	for _, point := range []string{"publish.signature", "publish.remember"} {
		for name, again := range map[string]func(r *remembering) error{
			"yank": func(r *remembering) error {
				return r.publisher(false).Yank(r.tb.Context(), "agentd", "1.0.0", "it crashes")
			},
			"publish": func(r *remembering) error {
				_, err := r.publisher(false).Publish(r.tb.Context(), r.release("1.1.0"))
				return err
			},
		} {
			t.Run(point+"/"+name, func(t *testing.T) {
				r := newRemembering(t)
				t.Setenv(envPublishState, r.stateDir)
				cmd, output := publisherProcess(t, r.dir, point+"=kill", "1.1.0")
				if err := cmd.Wait(); !reexec.Killed(err) {
					t.Fatalf("the publisher was not killed: %v\n%s", err, output)
				}
				raw := r.read(r.path(indexPath))
				if err := again(r); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(r.read(r.path(indexPath)), raw) {
					t.Error("the index was written anew")
				}
				if err := fixtureTrust(t, 1).Verify(raw, r.read(r.path(indexPath+signatureSuffix))); err != nil {
					t.Errorf("the copy beside the index: %v", err)
				}
				if last, err := r.publisher(false).remembered(); err != nil || last.Sequence != 3 || last.Index != sha256Hex(raw) {
					t.Errorf("remembered: %+v, %v, want index 3", last, err)
				}
			})
		}
	}
}

func TestYankThatChangesNothingDoesNotMakeAnOlderIndexTheNewest(t *testing.T) {
	t.Parallel()
	r := newRemembering(t)
	r.setBack()
	if err := r.publisher(true).Yank(t.Context(), "agentd", "1.0.0", ""); err != nil {
		t.Fatal(err)
	}
	if err := r.publisher(false).Refresh(t.Context(), "agentd"); !errors.Is(err, ErrReplay) {
		t.Errorf("%v, want %v", err, ErrReplay)
	}
}

func TestYankThatChangesNothingWritesNothingWhereAllIsInPlace(t *testing.T) {
	t.Parallel()
	r := newRemembering(t)
	written := func() (all []os.FileInfo) {
		for _, path := range []string{r.path(indexPath), r.path(indexPath + signatureSuffix), filepath.Join(r.stateDir, publishedFile)} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, info)
		}
		return all
	}
	before := written()
	if err := r.publisher(false).Yank(t.Context(), "agentd", "1.0.0", "it crashes"); err != nil {
		t.Fatal(err)
	}
	for i, info := range written() {
		if !os.SameFile(before[i], info) {
			t.Errorf("%s was written", info.Name())
		}
	}
}
