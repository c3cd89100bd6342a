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
// In their directory is all that the test makes.
var builds struct {
	dir string
	err error
}

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(wardenEnv); ok {
		if err := ward(filepath.Join(os.TempDir(), dir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var w *warden
	if builds.dir, builds.err = os.MkdirTemp("", "kill-"); builds.err == nil {
		if w, builds.err = newWarden(builds.dir); builds.err == nil {
			builds.err = build(builds.dir)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := w.end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		os.Exit(code)
	}))
}

// Versions of what is replaced by itself, back and forth.
const (
	oldVersion = "1.0.0"
	newVersion = "1.1.0"
)

// build makes the executables as they are released, without the race detector.
func build(dir string) error {
	var all errgroup.Group
	all.SetLimit(2)
	for _, source := range []string{"agentd", "plugins/logtail", "plugins/exec"} {
		for _, version := range []string{oldVersion, newVersion} {
			all.Go(func() error {
				out := filepath.Join(dir, filepath.Base(source)+"-"+version)
				cmd := exec.Command("go", "build", "-race=false", "-ldflags", "-s -w -X main.version="+version, "-o", out, ".")
				cmd.Dir = filepath.Join("..", filepath.FromSlash(source))
				if text, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("%v: %w\n%s", cmd, err, text)
				}
				return nil
			})
		}
	}
	return all.Wait()
}

func built(name, version string) string { return filepath.Join(builds.dir, name+"-"+version) }
