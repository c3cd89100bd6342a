//go:build linux

package plugin_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/pluginpb"
	"github.com/perennial-go/perennial/plugin/sdk"
)

// The test binary is also the plugin that the tests run, and a host that the
// tests kill. What a plugin is to do is the payload of its copy of the binary:
// each spec so has a digest of its own, as each release of a plugin has.

const hostEnv = "PERENNIAL_TEST_HOST"

func TestMain(m *testing.M) {
	serve := serveHost
	switch {
	case os.Getenv(pluginpb.CookieKey) != "":
		serve = servePlugin
	case os.Getenv(hostEnv) == "":
		// Most of the time the tests wait for a process to do nothing.
		flag.Parse()
		if err := flag.Set("test.parallel", "4"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		goleak.VerifyTestMain(m)
		return
	}
	// Not by os.Exit, for which the race detector takes another second: a
	// plugin gets no environment by which to tell it not to.
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		syscall.Exit(1)
	}
	syscall.Exit(0)
}

// spec is what a test's plugin is to do.
type spec struct {
	Name, Version string
	// Report replaces the version that the plugin reports.
	Report string
	// ExitEarly ends it before the handshake, ExitInStart in Start.
	ExitEarly, ExitInStart bool
	HangInStart            bool
	// IgnoreStop makes Execute and Stop hang.
	IgnoreStop bool
	// Outlive keeps the process when Serve has returned.
	Outlive bool
	// Misbehave is what it does that it should not.
	Misbehave misbehaviour
	// Problem is what Health reports while the file of that name exists.
	Problem string
	// Offspring is where it writes the process id of a child, if set.
	Offspring string
}

// servePlugin is the plugin's main.
func servePlugin() error {
	var s spec
	if err := reexec.Payload(&s); err != nil {
		return err
	}
	if s.Misbehave != "" {
		return misbehave(s)
	}
	if s.ExitEarly {
		return errors.New("no configuration for the frobnicator")
	}
	version := s.Version
	if s.Report != "" {
		version = s.Report
	}
	err := sdk.Serve(sdk.Config{Name: s.Name, Version: version, Capabilities: capabilities()}, &testPlugin{spec: s})
	if s.Outlive {
		for range time.Tick(time.Hour) { //nolint:revive // for ever
		}
	}
	return err
}

// capabilities are those of testPlugin.
func capabilities() []string {
	return []string{
		"count", "environ", "fds", "crash", "fail", "settings", "offspring", "flood", "rant",
		"until", "say", "sense", "task", "span",
	}
}

type testPlugin struct {
	spec     spec
	settings []byte
}

func (p *testPlugin) Start(ctx context.Context, settings []byte) error {
	if p.spec.ExitInStart {
		panic("cannot bear it")
	}
	if p.spec.HangInStart {
		<-ctx.Done()
		select {}
	}
	p.settings = settings
	if p.spec.Offspring != "" {
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			return err
		}
		if err := os.WriteFile(p.spec.Offspring, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
			return err
		}
	}
	sdk.Logger().Warn("hello from the plugin", "version", p.spec.Version)
	return nil
}

func (p *testPlugin) Health(context.Context) error {
	if _, err := os.Stat(p.spec.Problem); p.spec.Problem != "" && err == nil {
		return errors.New("the source is unreadable")
	}
	return nil
}

func (p *testPlugin) Stop(context.Context) error {
	if p.spec.IgnoreStop {
		select {}
	}
	return nil
}

func (p *testPlugin) Execute(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	text := func(s string) error { return send(sdk.Result{Payload: []byte(s)}) }
	switch task.Capability {
	case "count":
		return p.count(ctx, task, send)
	case "environ":
		return text(strings.Join(os.Environ(), "\n"))
	case "span":
		return text(tracing.Text(ctx))
	case "fds":
		return text(openFiles())
	case "settings":
		return text(string(p.settings))
	case "crash":
		_ = text("before the crash")
		syscall.Exit(7)
	case "fail":
		return errors.New("no such table")
	case "rant":
		return errors.New("first line\nsecond line \x1b[31m" + strings.Repeat("and more ", 1000))
	case "flood":
		return send(sdk.Result{Payload: make([]byte, pluginpb.MaxMessageBytes+1)})
	case "until": // the file that the payload names is there
		if err := text("begun"); err != nil {
			return err
		}
		for {
			if _, err := os.Stat(string(task.Payload)); err == nil {
				return text("done")
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Millisecond):
			}
		}
	case "sense":
		return sdk.Permanent(errors.New("it makes no sense"))
	case "task":
		deadline, limited := ctx.Deadline()
		return text(fmt.Sprintln(task.ID, task.Attempt, task.IdempotencyKey, limited, time.Until(deadline) > 0))
	case "say":
		fmt.Println("out: " + string(task.Payload))
		fmt.Fprintln(os.Stderr, "err: "+string(task.Payload))
		return nil
	case "offspring":
		cmd := exec.Command("sleep", "600")
		cmd.Stdout, cmd.Stderr = os.NewFile(1, "stdout"), os.NewFile(2, "stderr")
		if err := cmd.Start(); err != nil {
			return err
		}
		return text(strconv.Itoa(cmd.Process.Pid))
	}
	return errors.ErrUnsupported
}

// count streams the numbers after the cursor as fast as they are taken, each
// its own cursor. A payload bounds it.
func (p *testPlugin) count(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	n, _ := strconv.Atoi(task.Cursor)
	limit, _ := strconv.Atoi(string(task.Payload))
	for limit == 0 || n < limit {
		if ctx.Err() != nil && !p.spec.IgnoreStop {
			return ctx.Err()
		}
		n++
		s := strconv.Itoa(n)
		if err := send(sdk.Result{Payload: []byte(p.spec.Version + " " + s), Cursor: s}); err != nil && !p.spec.IgnoreStop {
			return err
		}
	}
	return nil
}

func openFiles() string {
	var b strings.Builder
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		fmt.Fprintln(&b, e.Name(), target)
	}
	return b.String()
}

// serveHost is the main of a host process: it runs the plugins of the
// directory that its environment names and prints the process id of the first
// that runs.
func serveHost() error {
	var dir, state string
	var orphan time.Duration
	if _, err := fmt.Sscanf(os.Getenv(hostEnv), "%q %q %d", &dir, &state, &orphan); err != nil {
		return err
	}
	printed := false
	m, err := plugin.New(plugin.Config{
		Dir: dir, StateDir: state, Settle: 50 * time.Millisecond, OrphanAfter: orphan,
		OnChange: func(all []plugin.Status) {
			for _, s := range all {
				if s.State == plugin.Running && !printed {
					printed = true
					fmt.Println(s.PID)
				}
			}
		},
	})
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	return m.Run(ctx)
}

// build writes an executable that does what s says.
func build(tb testing.TB, s spec) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), s.Name)
	if err := reexec.Copy(path, s); err != nil {
		tb.Fatal(err)
	}
	return path
}

func manifest(s spec) plugin.Manifest {
	return plugin.Manifest{Name: s.Name, Version: s.Version, Capabilities: capabilities()}
}

// install builds s and puts it into dir.
func install(tb testing.TB, dir string, s spec) plugin.Manifest {
	tb.Helper()
	m, err := plugin.Install(dir, build(tb, s), manifest(s))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func processGone(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(data[bytes.LastIndexByte(data, ')'):]), " ")
	return strings.HasPrefix(rest, "Z")
}

func awaitGone(tb testing.TB, pid int) {
	tb.Helper()
	waittest.Until(tb, fmt.Sprintf("process %d has ended", pid), func() bool { return processGone(pid) })
}
