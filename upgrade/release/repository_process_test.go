package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/internal/waittest"
)

// The environment of a publisher process; set by publisherProcess only.
const (
	envPublishDir      = "UPGRADE_TEST_PUBLISH_DIR"
	envPublishVersions = "UPGRADE_TEST_PUBLISH_VERSIONS"
	envPublishState    = "UPGRADE_TEST_PUBLISH_STATE"
)

// TestPublisherProcess is no test but the main function of the publishers
// that the tests below start and kill.
func TestPublisherProcess(t *testing.T) {
	reexec.Begin(t)
	f := newFixture(t)
	f.dir, f.published = os.Getenv(envPublishDir), os.Getenv(envPublishState)
	f.publish(strings.Split(os.Getenv(envPublishVersions), ",")...)
}

func publisherProcess(t *testing.T, dir, failpoints string, versions ...string) (cmd *exec.Cmd, output *bytes.Buffer) {
	t.Helper()
	cmd = reexec.Test(t, "TestPublisherProcess", failpoints, envPublishDir+"="+dir, envPublishVersions+"="+strings.Join(versions, ","))
	output = new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the publisher said:\n%s", output)
		}
	})
	return cmd, output
}

// assertWhole checks that everything the index lists can be installed.
func assertWhole(t *testing.T, f *fixture) *Index {
	t.Helper()
	x, err := f.client().Index(t.Context())
	if err != nil {
		t.Fatalf("the repository cannot be read: %v", err)
	}
	for _, e := range x.Releases {
		if _, err := f.install(t.Context(), f.client(), e.Version); err != nil {
			t.Errorf("listed, but: %v", err)
		}
	}
	return x
}

func TestPublisherKilledAtAnyStepLeavesAReadableRepository(t *testing.T) {
	for _, tt := range []struct {
		point     string
		published bool
	}{
		{"publish.blobs", false},
		{"publish.manifest", false},
		{"publish.index", false},
		{"publish.signature", true},
	} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/first=%v", tt.point, first), func(t *testing.T) {
				f := newFixture(t)
				if !first {
					f.publish("1.0.0")
				}
				cmd, output := publisherProcess(t, f.dir, tt.point+"=kill", "1.1.0")
				if err := cmd.Wait(); !reexec.Killed(err) {
					t.Fatalf("the publisher was not killed: %v\n%s", err, output)
				}
				versions := 0
				if tt.published || !first {
					versions = len(assertWhole(t, f).Releases)
				} else if _, err := f.client().Index(t.Context()); !errors.Is(err, ErrNotFound) {
					t.Fatalf("half a first release: %v, want ErrNotFound", err)
				}
				want := 0
				if tt.published {
					want++
				}
				if !first {
					want++
				}
				if versions != want {
					t.Errorf("%d releases are listed, want %d", versions, want)
				}
				// The next publisher needs no repair and no help.
				f.publish("1.1.0", "1.2.0")
				assertWhole(t, f)
			})
		}
	}
}

func TestPublisherKilledAtRandomTimesLeavesAReadableRepository(t *testing.T) {
	rounds := 15
	if testing.Short() {
		rounds = 3
	}
	f := newFixture(t)
	f.publish("1.0.0")
	for round := range rounds {
		cmd, _ := publisherProcess(t, f.dir, "", manyVersions(round, 20)...)
		waittest.Until(t, "the first release is published", func() bool { return f.index().entry(manyVersions(round, 1)[0]) != nil })
		timer := time.NewTimer(time.Duration(rand.IntN(30_000)) * time.Microsecond)
		<-timer.C
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if _, err := f.client().Index(t.Context()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	f.publish("9.0.0")
	x := assertWhole(t, f)
	if int64(len(x.Releases)) != x.Sequence {
		t.Errorf("%d releases after %d changes: one was lost", len(x.Releases), x.Sequence)
	}
}

func manyVersions(round, n int) []string {
	versions := make([]string, n)
	for i := range versions {
		versions[i] = "2." + strconv.Itoa(round) + "." + strconv.Itoa(i)
	}
	return versions
}

func TestConcurrentPublishersLoseNothingAndReadersNeverFail(t *testing.T) {
	const publishers, each = 4, 8
	f := newFixture(t)
	f.publish("1.0.0")
	ctx, stop := context.WithCancel(t.Context())
	reader := make(chan error, 1)
	reads := 0
	go func() { // a host that looks all the time
		c := f.client()
		for ctx.Err() == nil {
			if _, err := c.Index(ctx); err != nil && ctx.Err() == nil {
				reader <- err
				return
			}
			reads++
		}
		reader <- nil
	}()
	var commands []*exec.Cmd
	var outputs []*bytes.Buffer
	for i := range publishers {
		cmd, output := publisherProcess(t, f.dir, "", manyVersions(i, each)...)
		commands, outputs = append(commands, cmd), append(outputs, output)
	}
	for i, cmd := range commands {
		if err := cmd.Wait(); err != nil {
			t.Errorf("publisher %d: %v\n%s", i, err, outputs[i])
		}
	}
	stop()
	if err := <-reader; err != nil {
		t.Errorf("a host that read meanwhile: %v", err)
	}
	if reads == 0 {
		t.Error("the reader read nothing")
	}
	x := assertWhole(t, f)
	if len(x.Releases) != 1+publishers*each || x.Sequence != 1+publishers*each {
		t.Errorf("%d releases and sequence %d, want %d", len(x.Releases), x.Sequence, 1+publishers*each)
	}
}
