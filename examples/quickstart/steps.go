package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/plugin"
)

// start sets up all that the agent needs, and the agent.
func (s *site) start(ctx context.Context) (string, error) {
	var err error
	s.etcd, err = s.procs.launch("etcd", filepath.Join(s.dir, "etcd.log"),
		s.binary("agentd", "1.0.0"), "etcd", "--data", filepath.Join(s.dir, "etcd"), "--listen", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	if s.etcdURL, err = s.printed(ctx, s.etcd, "etcd serves on"); err != nil {
		return "", err
	}
	if err := s.cli(ctx, func(string) {}, "keys", "generate", "--out", s.keys); err != nil {
		return "", err
	}
	for _, version := range []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0"} {
		if err := s.release(ctx, version); err != nil {
			return "", err
		}
	}
	if err := s.install(ctx, "hostmetrics", hostmetrics, "1.0.0", hostmetricsSettings()); err != nil {
		return "", err
	}
	if err := s.install(ctx, "logtail", logtail, "1.0.0", map[string]any{"paths": []string{s.app.pattern()}, "interval": "100ms"}); err != nil {
		return "", err
	}
	s.app.start()
	return s.startAgent(ctx)
}

// release publishes a version that was built.
func (s *site) release(ctx context.Context, version string) error {
	return s.cli(ctx, func(string) {}, "release", "build", "--plain", "--key", filepath.Join(s.keys, "release.key"),
		"--repo", s.repo, "--name", "agentd", "--version", version, s.binary("agentd", version))
}

func (s *site) trust() string { return filepath.Join(s.keys, "release.pub") }

// probation is how long a release serves before it is trusted here: longer
// than it takes 1.2.0 to turn unhealthy.
const probation = "5s"

func (s *site) startAgent(ctx context.Context) (string, error) {
	var err error
	s.agent, err = s.procs.launch("agentd", filepath.Join(s.dir, "agent.log"),
		s.binary("agentd", "1.0.0"), "run", "--id", agentID, "--etcd", s.etcdURL, "--state-dir", s.state,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--repo", s.repo, "--trust", s.trust(),
		"--plugins", s.plugins, "--label", "env=quickstart", "--group", "quickstart", "--probation", probation)
	if err != nil {
		return "", err
	}
	if s.records, err = s.printed(ctx, s.agent, "records on"); err != nil {
		return "", err
	}
	health, err := s.printed(ctx, s.agent, "health on")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("etcd on %s, records on %s, health on %s", s.etcdURL, s.records, health), nil
}

// printed waits for the line in which a process prints its address.
func (s *site) printed(ctx context.Context, p *process, words string) (url string, err error) {
	line := regexp.MustCompile(`(?m)^` + words + ` (http://\S+)$`)
	err = s.await(ctx, fmt.Sprintf("%s prints %q", p.name, words), func(context.Context) error {
		text, err := os.ReadFile(p.log)
		if err != nil {
			return err
		}
		found := line.FindSubmatch(text)
		if found == nil {
			return fmt.Errorf("the lines\n%s", lastLines(p.log, 5))
		}
		url = string(found[1])
		return nil
	})
	return url, err
}

// register waits until the registry shows the agent, ready, with its plugins.
func (s *site) register(ctx context.Context) (string, error) {
	var e agent.Entry
	err := s.await(ctx, "the registry shows the agent ready and its plugins running", func(ctx context.Context) (err error) {
		e, err = s.registered(ctx)
		switch {
		case err != nil:
			return err
		case e.Version != "1.0.0" || e.State.State != agent.Running || e.PID != s.agent.cmd.Process.Pid:
			return fmt.Errorf("version %s, pid %d, %s", e.Version, e.PID, e.State.State)
		case !e.Status.Health.Ready:
			return errors.New("not ready")
		}
		for _, name := range []string{"hostmetrics", "logtail"} {
			if p := pluginOf(e, name); p.State != plugin.Running {
				return fmt.Errorf("plugin %s %s %s", name, p.State, p.Reason)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s runs %s with pid %d, binary %.12s, plugins hostmetrics %s and logtail %s", e.ID, e.Version, e.PID,
		e.BinaryDigest, pluginOf(e, "hostmetrics").Version, pluginOf(e, "logtail").Version), nil
}

// pluginOf finds a plugin of an agent; it has no state if it is not there.
func pluginOf(e agent.Entry, name string) plugin.Status {
	i := slices.IndexFunc(e.Plugins, func(p agent.PluginRecord) bool { return p.Name == name })
	if i < 0 {
		return plugin.Status{Reason: "not in the registry"}
	}
	return e.Plugins[i].Status
}

// beginLoad starts the clients and waits until all of them get answers.
func (s *site) beginLoad(ctx context.Context) (string, error) {
	s.load = startLoad(s.records, s.opts.clients)
	s.load.mark("load")
	goal := int64(50 * s.opts.clients)
	err := s.await(ctx, fmt.Sprintf("%d requests are answered", goal), func(context.Context) error {
		if t := s.load.total(); t.Requests-t.Failed < goal {
			return fmt.Errorf("%d answered, %d failed", t.Requests-t.Failed, t.Failed)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d clients, half of them on connections that they keep, half of them posting records", s.opts.clients), nil
}

// fileLimit is the setting that is changed; it shows in the spool, where
// the next file is begun at that size.
const fileLimit = 64 << 10

// configure publishes a document and waits until the agent acts by it.
func (s *site) configure(ctx context.Context) (string, error) {
	before, err := s.info(ctx)
	if err != nil {
		return "", err
	}
	files := s.spoolFiles()
	began := time.Now()
	revision, err := s.publish(ctx, fmt.Sprintf("spool:\n  max_file_bytes: %d\n", fileLimit))
	if err != nil {
		return "", err
	}
	if err := s.inForce(ctx, revision, before.PID); err != nil {
		return "", err
	}
	took := round(time.Since(began))
	err = s.await(ctx, fmt.Sprintf("the spool begins files of %d KiB", fileLimit>>10), func(context.Context) error {
		if now := s.spoolFiles(); len(now) < len(files)+2 {
			return fmt.Errorf("%d files", len(now))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("revision %d in force after %v, in the same process; spool files now end at %d KiB", revision, took, fileLimit>>10), nil
}

// publish puts a document for every agent and returns its revision.
func (s *site) publish(ctx context.Context, document string, flags ...string) (int64, error) {
	path := filepath.Join(s.dir, "agentd.yaml")
	if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
		return 0, err
	}
	if err := s.cli(ctx, s.show, append([]string{"config", "put", "--etcd", s.etcdURL, "global", path}, flags...)...); err != nil {
		return 0, err
	}
	var published struct {
		Revision int64 `json:"revision"`
	}
	err := s.ask(ctx, &published, "config", "get", "--etcd", s.etcdURL, "global")
	return published.Revision, err
}

// show prints a command's line below the step that it belongs to.
func (s *site) show(line string) { s.screen.detail("| %s", line) }

// inForce waits until process pid says that it runs on a configuration.
func (s *site) inForce(ctx context.Context, revision int64, pid int) error {
	return s.await(ctx, fmt.Sprintf("process %d runs on configuration revision %d", pid, revision), func(ctx context.Context) error {
		now, err := s.info(ctx)
		if err == nil && (now.ConfigRevision != revision || now.PID != pid) {
			err = fmt.Errorf("revision %d in process %d", now.ConfigRevision, now.PID)
		}
		return err
	})
}

func (s *site) spoolFiles() []string {
	files, _ := filepath.Glob(filepath.Join(s.state, "spool", "*.ndjson")) // the pattern is right
	return files
}

// refuseConfiguration has a document with a field that does not exist refused
// before the agent sees it, publishes it all the same, sees the agent stay as
// it is and say why, and publishes a good one again.
func (s *site) refuseConfiguration(ctx context.Context) (string, error) {
	before, err := s.info(ctx)
	if err != nil {
		return "", err
	}
	good := fmt.Sprintf("spool:\n  max_file_bytes: %d\n", fileLimit)
	const unknown = "  max_file_size: 1\n"
	if _, err := s.publish(ctx, good+unknown); err == nil || !strings.Contains(err.Error(), "max_file_size") {
		return "", fmt.Errorf("want config put to refuse the field spool.max_file_size, found: %w", cmp.Or(err, errors.New("it took it")))
	}
	bad, err := s.publish(ctx, good+unknown, "--force")
	if err != nil {
		return "", err
	}
	reason := ""
	err = s.await(ctx, fmt.Sprintf("the agent's status says that it refused revision %d", bad), func(ctx context.Context) error {
		e, err := s.registered(ctx)
		if err != nil {
			return err
		}
		c := e.Status.Config
		if c == nil || c.LastFailed == nil || c.LastFailed.Revision != bad || c.Wanted != bad || c.Running != before.ConfigRevision {
			return fmt.Errorf("configuration %+v", c)
		}
		reason = c.LastFailed.Reason
		return nil
	})
	if err != nil {
		return "", err
	}
	if !strings.Contains(reason, "max_file_size") {
		return "", fmt.Errorf("want a reason that names the field spool.max_file_size, found %q", reason)
	}
	if err := s.inForce(ctx, before.ConfigRevision, before.PID); err != nil {
		return "", err
	}
	repaired, err := s.publish(ctx, good)
	if err != nil {
		return "", err
	}
	if err := s.inForce(ctx, repaired, before.PID); err != nil {
		return "", err
	}
	return fmt.Sprintf("config put refused it, and the agent when it was forced: revision %d stayed, revision %d was refused: %s; revision %d repaired it",
		before.ConfigRevision, bad, reason, repaired), nil
}
