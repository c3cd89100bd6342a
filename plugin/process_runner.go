package plugin

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-plugin/runner"
)

// These methods complete runner.Runner.
var _ runner.Runner = (*process)(nil)

// Wait blocks until the process has been reaped.
func (p *process) Wait(context.Context) error {
	<-p.exited
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Kill ends the process group.
func (p *process) Kill(context.Context) error { p.kill(); return nil }

// Diagnose has nothing to add to what the plugin wrote to standard error.
func (p *process) Diagnose(context.Context) string { return "" }

// Stdout carries the handshake and nothing else.
func (p *process) Stdout() io.ReadCloser { return p.cfg.out.greeting }

// Stderr is empty: the output is read elsewhere.
func (p *process) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name is the plugin's.
func (p *process) Name() string { return p.cfg.name }

// ID is the process id, "" before Start.
func (p *process) ID() string {
	if pid := p.pid(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

// addEnv adds to the environment of a process that is yet to be started.
func (p *process) addEnv(env []string) { p.cfg.env = slices.Concat(p.cfg.env, env) }

// PluginToHost accepts the address in the handshake if it is a socket in the
// room: a host that dials what it is told could be sent anywhere. Limits are
// set again: a Go program raises that of its files as it starts, and as root
// beyond what it was given meanwhile.
func (p *process) PluginToHost(network, addr string) (string, string, error) {
	if network != "unix" && runtime.GOOS == "windows" {
		return network, addr, nil // a TCP port, and certificates
	}
	if network != "unix" || !strings.HasPrefix(filepath.Clean(addr), p.cfg.dir+string(filepath.Separator)) {
		return "", "", fmt.Errorf("want the address of a unix socket in %s, found %q %q", p.cfg.dir, network, addr)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader != 0 && !p.reaped {
		p.cfg.limits.hold(p.leader, &p.held)
	}
	return network, addr, nil
}

// HostToPlugin leaves addresses as they are: both sides see one file system.
func (p *process) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
