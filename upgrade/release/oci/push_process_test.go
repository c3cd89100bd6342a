package oci

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/upgrade/release"
)

// The environment of a pushing process; set by killedPush only.
const (
	envPushDir      = "OCI_TEST_PUSH_DIR"
	envPushLocation = "OCI_TEST_PUSH_LOCATION"
)

// TestPushProcess is no test but the main function of the processes that the
// test below kills.
func TestPushProcess(t *testing.T) {
	reexec.Begin(t)
	if _, err := Push(t.Context(), PushConfig{Dir: os.Getenv(envPushDir), Target: Config{Location: os.Getenv(envPushLocation)}}); err != nil {
		t.Fatal(err)
	}
}

func killedPush(t *testing.T, dir, location, point string) {
	t.Helper()
	cmd := reexec.Test(t, "TestPushProcess", point+"=kill", envPushDir+"="+dir, envPushLocation+"="+location)
	if out, err := cmd.CombinedOutput(); !reexec.Killed(err) {
		t.Fatalf("it was not killed: %v\n%s", err, out)
	}
}

func TestPushKilledAtAnyStepLeavesTheOldState(t *testing.T) {
	t.Parallel()
	for _, p := range places()[:2] {
		for _, point := range []string{"push.image", "push.images", "push.tag", "layout.blob", "layout.index"} {
			layoutOnly := strings.HasPrefix(point, "layout.")
			if layoutOnly && p.name != "layout" {
				continue
			}
			for _, first := range []bool{true, false} {
				name := p.name + "/" + point
				if first {
					name += "/first"
				}
				t.Run(name, func(t *testing.T) {
					location := p.location(t)
					f := newFixture(t)
					old := f.publish("1.0.0")
					src := source(t, Config{Location: location})
					if !first {
						f.push(PushConfig{Target: Config{Location: location}})
					}
					pin := f.publish("1.1.0")
					killedPush(t, f.dir, location, point)
					_, err := f.fetch(src, old)
					if first && !errors.Is(err, release.ErrNotFound) && !errors.Is(err, os.ErrNotExist) {
						t.Errorf("half a first push: %v, want that nothing is found", err)
					}
					if !first && err != nil {
						t.Errorf("what was there before: %v", err)
					}
					if _, err := f.fetch(src, pin); err == nil {
						t.Error("the release is offered before its push has ended")
					}
					f.push(PushConfig{Target: Config{Location: location}})
					if got, err := f.fetch(src, pin); err != nil || !bytes.Equal(got, content("1.1.0")) {
						t.Errorf("pushed again: %d bytes, %v", len(got), err)
					}
					if dir, ok := strings.CutPrefix(location, schemeLayout); ok {
						if left, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", ".tmp-*")); err != nil || len(left) > 0 {
							t.Errorf("left over: %v, %v", left, err)
						}
					}
				})
			}
		}
	}
}
