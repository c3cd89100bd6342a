package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const examples = "github.com/perennial-go/perennial/examples/"

// firstVersion is what agentd is built as. Later versions are made by writing
// another number of the same length over it, which saves their links.
const firstVersion = "1.0.10001"

// build compiles the main package below examples, once a run, with build tags
// or none.
func (b *bench) build(ctx context.Context, pkg, tags string) (string, error) {
	return b.buildWith(ctx, pkg, tags, "")
}

// buildWith is build with flags for the linker.
func (b *bench) buildWith(ctx context.Context, pkg, tags, ldflags string) (string, error) {
	path := filepath.Join(b.dir, filepath.Base(pkg)+tags+ldflags)
	if b.built[path] {
		return path, nil
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-tags", tags, "-ldflags", ldflags+" -X main.version="+firstVersion, "-o", path, examples+pkg)
	b.say("go build %s %s %s", examples+pkg, tags, ldflags)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: run bench inside the repository\n%s", cmd, err, bytes.TrimSpace(out))
	}
	b.built[path] = true
	return path, nil
}

// restamp writes the executable from, which says that it is firstVersion, to
// another path as another version.
func restamp(from, to, version string) error {
	if len(version) != len(firstVersion) {
		return fmt.Errorf("want a version as long as %s, found %s", firstVersion, version)
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	stamped := bytes.ReplaceAll(data, []byte(firstVersion), []byte(version))
	if bytes.Equal(stamped, data) {
		return errors.New(from + " does not hold the version that it was built as")
	}
	return os.WriteFile(to, stamped, 0o755) //nolint:gosec // an executable
}
