package killtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

// builds are the executables that run: agentd-<version>, and those of plugins.
var builds struct {
	dir string
	err error
}

func TestMain(m *testing.M) {
	builds.dir, builds.err = build()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(builds.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}))
}

// Versions of what is replaced by itself, back and forth.
const (
	oldVersion = "1.0.0"
	newVersion = "1.1.0"
)

// build makes the executables as a user would, without the race detector.
func build() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "killtest-"); err != nil {
		return "", err
	}
	var all errgroup.Group
	all.SetLimit(2)
	for _, source := range []string{"agentd", "plugins/logtail", "plugins/exec"} {
		for _, version := range []string{oldVersion, newVersion} {
			all.Go(func() error {
				out := filepath.Join(dir, filepath.Base(source)+"-"+version)
				cmd := exec.Command("go", "build", "-race=false", "-ldflags", "-X main.version="+version, "-o", out, ".")
				cmd.Dir = filepath.Join("..", filepath.FromSlash(source))
				if text, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("%v: %w\n%s", cmd, err, text)
				}
				return nil
			})
		}
	}
	return dir, all.Wait()
}

func built(name, version string) string { return filepath.Join(builds.dir, name+"-"+version) }
