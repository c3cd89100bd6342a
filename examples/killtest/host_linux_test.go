package killtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/perennial-go/perennial/plugin"
)

// host is an agent with its plugins and logs, and whoever starts it again when
// it has ended, as a service manager does.
type host struct {
	*site
	id                        string
	dir, state, plugins, logs string
}

func newHost(s *site, id string) (*host, error) {
	dir := filepath.Join(s.dir, id)
	h := &host{site: s, id: id, dir: dir, state: filepath.Join(dir, "state"), plugins: filepath.Join(dir, "plugins"), logs: filepath.Join(dir, "logs")}
	for _, d := range []string{h.plugins, h.logs} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"logtail", "exec"} {
		if err := h.install(name, oldVersion, 1); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// install puts a plugin into the directory; another patience, a setting that
// does not matter here, makes another generation of the same version.
func (h *host) install(name, version string, patience int) error {
	template, err := os.ReadFile(filepath.Join("..", "plugins", name, name+plugin.ManifestSuffix))
	if err != nil {
		return err
	}
	manifest, err := plugin.ParseTemplate(template)
	if err != nil {
		return err
	}
	manifest.Version = version
	manifest.Settings = h.settings(name, patience)
	_, err = plugin.Install(h.plugins, built(name, version), manifest)
	return err
}

func (h *host) settings(name string, patience int) map[string]any {
	if name == "logtail" {
		// The one is rotated by renaming, and its rotated names are not known;
		// the other by copying and truncating, under a pattern that leads to
		// the copies.
		return map[string]any{
			"paths": []string{h.log("renamed"), h.log("copied") + "*"}, "interval": "20ms", "linger": "1s",
			"max_files": 1024, "max_line_bytes": 1000 + patience,
		}
	}
	return map[string]any{"concurrency": 16, "commands": map[string]any{"work": map[string]any{
		"path": "/bin/sh", "timeout": fmt.Sprintf("%dm", patience), "grace": "200ms",
		"args":   []string{"-c", `echo "$PERENNIAL_TASK_KEY $PERENNIAL_TASK_ATTEMPT $(date +%s%N)" >>"$1" && sleep "$2" && echo done`, "work", h.ledger(), "${seconds}"},
		"params": map[string]any{"seconds": map[string]any{"pattern": "[0-9.]+"}},
	}}}
}

func (h *host) log(name string) string { return filepath.Join(h.logs, name+".log") }

// processes are the agent's own, in a swap two of them.
func (h *host) processes() (list []process) {
	for _, p := range processes() {
		if !p.zombie && strings.Contains(p.args, "\x00run\x00") && strings.Contains(p.args, "\x00"+h.state+"\x00") {
			list = append(list, p)
		}
	}
	return list
}

// plugged are the processes of its plugins, and what they have started.
func (h *host) plugged() (list []process) {
	for _, p := range processes() {
		if !p.zombie && strings.Contains(p.env, "PERENNIAL_PLUGIN_ROOM=") && strings.HasPrefix(p.image, h.state) {
			list = append(list, p)
		}
	}
	return list
}

// keep starts the agent whenever no process of it is there, until ctx ends.
func (h *host) keep(ctx context.Context) error {
	d := newDice(h.seed, "keep "+h.id)
	for wait(ctx, 200*time.Millisecond) {
		if len(h.processes()) > 0 || !wait(ctx, d.between(0, time.Second)) || len(h.processes()) > 0 {
			continue
		}
		if err := h.start(); err != nil {
			return err
		}
		h.tally.add("agent started")
	}
	return nil
}

// start starts a process of the agent, whichever release boots.
func (h *host) start() error {
	log, err := os.OpenFile(filepath.Join(h.dir, "agentd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := command("run", "--state-dir", h.state, "--id", h.id, "--etcd", h.url,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--plugins", h.plugins, "--repo", h.repo, "--trust", h.trust,
		"--probation", "1s", "--ttl", "5s", "--heartbeat", "500ms", "--tasks", "8", "--supervise", "never", "--check-every", "-1s")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	defer func() { _ = log.Close() }()
	_, err = h.nursery.start(cmd) // how it ends does not matter: it is started again
	return err
}

// swap has the agent replaced by its other version, or the one before.
func (h *host) swap(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	args := []string{"upgrade", "--repo", h.repo, "--trust", h.trust, "--etcd", h.url, "--agent", h.id, newVersion}
	if at, err := os.Readlink(filepath.Join(h.state, "current")); err == nil && strings.Contains(at, newVersion) {
		args = []string{"rollback", "--etcd", h.url, "--agent", h.id, oldVersion}
	}
	cmd := exec.CommandContext(limited, built("agentd", oldVersion), args...)
	if out, err := h.nursery.output(cmd); err != nil {
		h.tally.add("swap failed")
		h.note("%s %s: %v\n%s", h.id, args[0], err, out)
		return
	}
	h.tally.add("swap")
}

// suffer kills, stops and replaces the agent's processes until ctx ends.
func (h *host) suffer(ctx context.Context) error {
	d := newDice(h.seed, "agent "+h.id)
	for wait(ctx, d.between(500*time.Millisecond, 5*time.Second)) {
		what, length := d.IntN(100), d.between(100*time.Millisecond, 7*time.Second)
		switch {
		case what < 35:
			h.swap(ctx)
		case what < 75:
			h.tally.addIf(one(d, h.processes()).signal(syscall.SIGKILL), "agent killed")
		default:
			h.tally.addIf(stop(ctx, one(d, h.processes()), length), "agent stopped")
		}
	}
	return nil
}

// sufferPlugins does it to the processes of plugins.
func (h *host) sufferPlugins(ctx context.Context) error {
	d := newDice(h.seed, "plugins "+h.id)
	for wait(ctx, d.between(200*time.Millisecond, 3*time.Second)) {
		what, length := d.IntN(100), d.between(100*time.Millisecond, 4*time.Second)
		if what < 65 {
			h.tally.addIf(one(d, h.plugged()).signal(syscall.SIGKILL), "plugin killed")
		} else {
			h.tally.addIf(stop(ctx, one(d, h.plugged()), length), "plugin stopped")
		}
	}
	return nil
}

// reinstall replaces plugins.
func (h *host) reinstall(ctx context.Context) error {
	d := newDice(h.seed, "install "+h.id)
	for wait(ctx, d.between(2*time.Second, 6*time.Second)) {
		name, version := "logtail", oldVersion
		if d.percent(50) {
			name = "exec"
		}
		if d.percent(50) {
			version = newVersion
		}
		if err := h.install(name, version, 2+d.IntN(50)); err != nil {
			return err
		}
		h.tally.add("plugin replaced")
	}
	return nil
}

// one of the processes; the zero process if there is none.
func one(d dice, list []process) process {
	n := d.IntN(1 << 16) // drawn in any case, so that the next throw is the same
	if len(list) == 0 {
		return process{}
	}
	return list[n%len(list)]
}

// stop lets a process stand still for a while.
func stop(ctx context.Context, p process, length time.Duration) bool {
	if !p.signal(syscall.SIGSTOP) {
		return false
	}
	wait(ctx, length)
	p.signal(syscall.SIGCONT)
	return true
}

// command is agentd's.
func command(args ...string) *exec.Cmd { return exec.Command(built("agentd", oldVersion), args...) }
