// Command agentd is Perennial's reference agent: it takes records over HTTP,
// keeps them durably, collects more through plugins, and upgrades itself
// while it works. The same executable holds the operator's commands.
//
// Exit codes: 0 success, 1 failure, 2 wrong usage, 3 what was asked cannot be
// told, 4 to 6 how a rollout ended, 7 something drifts, 128+n where a supervised
// agent was ended by signal n. Every failure is one sentence on standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // windows of rollouts have zones, and minimal hosts no database of them

	"github.com/perennial-go/perennial/upgrade"
)

// version is set by -ldflags "-X main.version=1.2.3".
var version = "0.0.0-dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends a process that does not manage to stop. One that
	// comes at once belongs to the first: systemd signals every process of a
	// service, and the supervisor passes its own on.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	root := newRoot()
	err := root.ExecuteContext(ctx)
	os.Exit(report(os.Stderr, err))
}

// usageError is a mistake in how the command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// undecidedError says why there is neither a yes nor a no to what was asked.
type undecidedError struct{ error }

func (e undecidedError) Unwrap() error { return e.error }

// report writes the error as one line and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	exit, supervised := errors.AsType[*upgrade.ExitError](err)
	if !supervised || !exit.Exited { // else the process that was supervised has said why
		_, _ = fmt.Fprintln(w, "agentd:", oneLine(err.Error())) // joined errors have lines of their own
	}
	if errors.As(err, new(usageError)) {
		return 2
	}
	if errors.As(err, new(undecidedError)) {
		return 3
	}
	if ended, ok := errors.AsType[endedError](err); ok {
		return ended.code
	}
	return upgrade.ExitCode(err)
}
