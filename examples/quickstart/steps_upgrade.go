package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
)

// order asks for a version as an operator does and follows it to its end.
// What a bad release printed is left to the agent's log.
func (s *site) order(ctx context.Context, version string) error {
	show := func(line string) {
		if stamp, said, ok := strings.Cut(line, " "); ok && !strings.HasPrefix(said, "  | ") {
			s.show(stamp + " " + said)
		}
	}
	return s.cli(ctx, show, "upgrade", "--etcd", s.etcdURL, "--agent", agentID,
		"--repo", s.repo, "--trust", s.trust(), version)
}

// upgrade replaces the running release.
func (s *site) upgrade(ctx context.Context) (string, error) {
	before, err := s.info(ctx)
	if err != nil {
		return "", err
	}
	if err := s.order(ctx, "1.1.0"); err != nil {
		return "", err
	}
	now, err := s.info(ctx)
	if err != nil {
		return "", err
	}
	if now.Version != "1.1.0" || now.PID == before.PID {
		return "", fmt.Errorf("want 1.1.0 in another process than %d, found %s in %d", before.PID, now.Version, now.PID)
	}
	err = s.await(ctx, fmt.Sprintf("the process of 1.0.0, %d, drains and ends", before.PID), func(context.Context) error {
		if ended, _ := s.agent.ended(); !ended {
			return errors.New("it still runs")
		}
		return nil // a bad exit code ends await by itself
	})
	if err == nil {
		err = s.procs.broken()
	}
	if err != nil {
		return "", err
	}
	if err := s.serves(ctx, "1.1.0", now.PID); err != nil {
		return "", err
	}
	return fmt.Sprintf("1.1.0 serves in process %d, on the same sockets; process %d has drained and ended", now.PID, before.PID), nil
}

// serves checks that a version serves in a process, is registered and would
// boot next.
func (s *site) serves(ctx context.Context, version string, pid int) error {
	err := s.await(ctx, fmt.Sprintf("%s serves in process %d and is registered", version, pid), func(ctx context.Context) error {
		now, err := s.info(ctx)
		if err != nil {
			return err
		}
		e, err := s.registered(ctx)
		if err == nil && (now.Version != version || now.PID != pid || now.State != string(agent.Running) || e.Version != version || e.PID != pid || !e.Status.Health.Ready) {
			err = fmt.Errorf("%s in process %d, %s; registered %s in process %d, ready: %t", now.Version, now.PID, now.State, e.Version, e.PID, e.Status.Health.Ready)
		}
		return err
	})
	if err != nil {
		return err
	}
	var report upgrade.Report
	if err := s.ask(ctx, &report, "status", "--state-dir", s.state); err != nil {
		return err
	}
	if !strings.HasPrefix(report.Current, version+"-") {
		return fmt.Errorf("want a slot of %s to boot next, found %s", version, report.Current)
	}
	return nil
}

// refused asks for a bad release and checks that the agent goes on as before.
// It returns what the operator was told.
func (s *site) refused(ctx context.Context, version string, end upgrade.State, why string) (string, error) {
	before, err := s.info(ctx)
	if err != nil {
		return "", err
	}
	err = s.order(ctx, version)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err == nil:
		return "", fmt.Errorf("want agentd upgrade %s to fail, found that it succeeded", version)
	case !strings.Contains(err.Error(), string(end)) || !strings.Contains(err.Error(), why):
		return "", fmt.Errorf("want agentd upgrade %s to say that it was %s and %q, found: %w", version, end, why, err)
	}
	if err := s.serves(ctx, before.Version, before.PID); err != nil {
		return "", err
	}
	_, reason, _ := strings.Cut(err.Error(), " running: ")
	return fmt.Sprintf("%s still serves in process %d, and agentd upgrade failed: %s", before.Version, before.PID, reason), nil
}

// rollBackUnhealthy asks for a release that serves and then turns unhealthy.
func (s *site) rollBackUnhealthy(ctx context.Context) (string, error) {
	return s.refused(ctx, "1.2.0", upgrade.RolledBack, "turns unhealthy")
}

// refuseCrashing asks for a release that does not come to serve.
func (s *site) refuseCrashing(ctx context.Context) (string, error) {
	return s.refused(ctx, "1.3.0", upgrade.RolledBack, "did not stay alive")
}

// refuseTampered publishes a release, changes one byte of its executable in
// the repository, and asks for it.
func (s *site) refuseTampered(ctx context.Context) (string, error) {
	if err := s.release(ctx, "1.4.0"); err != nil {
		return "", err
	}
	blob, err := s.tamper(s.binary("agentd", "1.4.0"))
	if err != nil {
		return "", err
	}
	s.screen.detail("one byte changed in the repository's %s", blob)
	return s.refused(ctx, "1.4.0", upgrade.Failed, "digest differs")
}

// tamper flips a bit in the repository's copy of an executable.
func (s *site) tamper(executable string) (blob string, err error) {
	original, err := os.ReadFile(executable)
	if err != nil {
		return "", err
	}
	blobs, err := filepath.Glob(filepath.Join(s.repo, "blobs", "sha256", "*"))
	if err != nil {
		return "", err
	}
	for _, path := range blobs {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if bytes.Equal(data, original) {
			data[len(data)/2] ^= 1
			return filepath.Join("blobs", "sha256", filepath.Base(path)[:12]+"…"), os.WriteFile(path, data, 0o600)
		}
	}
	return "", fmt.Errorf("want %s among the repository's %d blobs, found none like it", executable, len(blobs))
}
