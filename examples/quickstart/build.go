package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/plugin"
)

// The packages that are built.
const (
	module      = "github.com/perennial-go/perennial/examples/"
	agentd      = module + "agentd"
	hostmetrics = module + "plugins/hostmetrics"
	logtail     = module + "plugins/logtail"
)

// program is an executable to build.
type program struct {
	name, pkg, version, tags string
}

// programs are all of them. The tags make releases that are bad.
func programs() []program {
	return []program{
		{"agentd", agentd, "1.0.0", ""},
		{"agentd", agentd, "1.1.0", ""},
		{"agentd", agentd, "1.2.0", "fault_unhealthy"},
		{"agentd", agentd, "1.3.0", "fault_crash"},
		{"agentd", agentd, "1.4.0", ""},
		{"hostmetrics", hostmetrics, "1.0.0", ""},
		{"hostmetrics", hostmetrics, "1.1.0", ""},
		{"logtail", logtail, "1.0.0", ""},
	}
}

// binary is where a version of a program is.
func (s *site) binary(name, version string) string {
	return filepath.Join(s.dir, "bin", name+"-"+version)
}

// build compiles what the rest needs. With empty caches this takes minutes,
// afterwards seconds.
func (s *site) build(ctx context.Context) (string, error) {
	if _, err := s.procs.command(ctx, func(string) {}, "go", "list", agentd); err != nil {
		return "", fmt.Errorf("want to be run with Go and inside Perennial's repository, so that %s can be built: %w", agentd, err)
	}
	for _, p := range programs() {
		err := s.during(ctx, "go build "+p.name+" "+p.version, func() error {
			said, err := s.procs.command(ctx, func(string) {}, "go", "build", "-buildvcs=false", "-tags", p.tags,
				"-ldflags", "-s -w -X main.version="+p.version, "-o", s.binary(p.name, p.version), p.pkg)
			if err != nil {
				return fmt.Errorf("go build %s: %w: %s", p.pkg, err, said)
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return "agentd 1.0.0, 1.1.0, 1.2.0 (will turn unhealthy), 1.3.0 (will crash), 1.4.0 (will be tampered with)", nil
}

// during shows on a terminal that work goes on.
func (s *site) during(ctx context.Context, what string, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			s.screen.pass("%s", what)
		}
		if ctx.Err() != nil {
			return <-done // it ends with ctx
		}
	}
}

// install puts a plugin into the agent's plugins directory, with settings
// in the place of its template's.
func (s *site) install(ctx context.Context, name, pkg, version string, settings map[string]any) error {
	var dir string
	if _, err := s.procs.command(ctx, func(line string) { dir = line }, "go", "list", "-f", "{{.Dir}}", pkg); err != nil {
		return fmt.Errorf("go list %s: %w", pkg, err)
	}
	template, err := os.ReadFile(filepath.Join(dir, name+plugin.ManifestSuffix))
	if err != nil {
		return err
	}
	manifest, err := plugin.ParseTemplate(template)
	if err != nil {
		return err
	}
	manifest.Version, manifest.Settings = version, settings
	_, err = plugin.Install(s.plugins, s.binary(name, version), manifest)
	return err
}
