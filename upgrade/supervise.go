package upgrade

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The environment variables by which a supervisor's processes know each
// other.
const (
	// supervisorVariable holds the supervisor's pid, in every process that it
	// supervises.
	supervisorVariable = "PERENNIAL_SUPERVISOR"
	// followsVariable is set in a supervisor that has executed another
	// release: its pid, the pid of the process that it follows, and two
	// descriptors of its keeper, 0 if it has none.
	followsVariable = "PERENNIAL_SUPERVISES"
	// keepsVariable is set in a supervisor's keeper: the supervisor's pid.
	keepsVariable = "PERENNIAL_KEEPS"
	// successorVariable is set by tableflip in a successor.
	successorVariable = "TABLEFLIP_HAS_PARENT_7DIU3"
)

// supervisedFile holds, as text, the pid of the supervised process that was
// started last, and the path of its executable.
const supervisedFile = "supervised"

// Supervision says whether an agent has a supervisor: a first process whose
// pid stays the same from release to release. The zero value is
// SuperviseAuto.
type Supervision string

// The values of Supervision.
const (
	// SuperviseAuto supervises where the process is pid 1, as in a container.
	SuperviseAuto Supervision = "auto"
	// SuperviseAlways supervises whatever the pid is.
	SuperviseAlways Supervision = "always"
	// SuperviseNever has no supervisor. A service manager or container
	// runtime that watches one pid then needs to be told of upgrades.
	SuperviseNever Supervision = "never"
)

// SuperviseConfig configures Supervise.
type SuperviseConfig struct {
	// StateDir is the agent's, as in Config. Required.
	StateDir string
	// Mode says whether to supervise; default SuperviseAuto.
	Mode Supervision
	// Logger receives the log; nil discards it.
	Logger *slog.Logger
}

// ExitError is how Supervise ends in a supervisor whose last serving process
// failed. The program should exit with Code; see ExitCode.
type ExitError struct {
	// Code is the exit code of that process, or 128 and the number of the
	// signal that ended it.
	Code int
	// Exited is true where Code is the process's own exit code, so that the
	// process could say why. Else the program should print the error.
	Exited bool
	// Reason says what happened.
	Reason string
}

// Error returns the reason.
func (e *ExitError) Error() string { return "the agent ended: " + e.Reason }

// ExitCode is the code that a program should exit with after Agent.Run or
// Supervise has returned err: 0 for nil and ErrSuperseded, that of an
// *ExitError, and 1 for any other.
func ExitCode(err error) int {
	if err == nil || errors.Is(err, ErrSuperseded) {
		return 0
	}
	if exit, ok := errors.AsType[*ExitError](err); ok {
		return exit.Code
	}
	return 1
}

// Supervise makes this process the agent's supervisor if that is asked for,
// and returns done when the supervisor's work is over: the program must then
// exit, with code 0 for a nil error. In every other process, the serving ones
// of a supervised agent included, it returns false at once and the program
// goes on. Agent.Run calls it; call it yourself only when you use an Upgrader
// without an Agent, before Open and as early in main as you can.
//
// A supervisor is a first process that starts the same executable again, with
// the same arguments, environment, directory and descriptors, in a process
// group of its own, and follows the agent from one release to the next. It
// reaps every orphan, as init does, and after a commit executes the release
// that has been committed, under its pid, so that its own code is not left
// behind. It forwards SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM,
// SIGTERM, SIGWINCH, SIGIO, SIGPWR and the real-time signals to the process in
// charge. This is the one place where the library handles signals, for this
// process is not the author's program: what the program has set up with
// os/signal is taken down. SIGINT, SIGTERM and the end of ctx stop the agent
// whatever it is doing: they reach each process that takes over afterwards,
// too. A signal that arrives while the supervisor executes another release is
// kept by a child that traces it meanwhile (ptrace). Where that is not allowed,
// one in these milliseconds is lost, and SIGTERM or SIGQUIT ends the supervisor.
//
// When no process of the agent is left the supervisor ends all of its
// descendants, SIGTERM first and SIGKILL after 5 s, and returns: nil after
// exit code 0 or a stop that was asked for, else an *ExitError.
//
// The program's main runs in a supervisor too, up to this call, and again
// after each commit. A release whose main fails there takes the supervisor
// with it; then the agent is gone (as pid 1) or goes on without a supervisor,
// and whoever started it should start it again.
//
// Errors: ErrNotSupported for SuperviseAlways outside Linux.
func Supervise(ctx context.Context, cfg SuperviseConfig) (done bool, err error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	switch cfg.Mode {
	case "":
		cfg.Mode = SuperviseAuto
	case SuperviseAuto, SuperviseAlways, SuperviseNever:
	default:
		return true, fmt.Errorf("supervise: want %q, %q or %q, found %q", SuperviseAuto, SuperviseAlways, SuperviseNever, cfg.Mode)
	}
	if cfg.StateDir == "" {
		return true, errors.New("supervise: StateDir is required")
	}
	if cfg.StateDir, err = filepath.Abs(cfg.StateDir); err != nil {
		return true, err
	}
	if serving, k, ok := follows(os.Getenv(followsVariable)); ok {
		return true, follow(ctx, cfg, serving, k)
	}
	if boss, keeps := os.LookupEnv(keepsVariable); keeps {
		if boss != strconv.Itoa(os.Getppid()) {
			// The supervisor has ended meanwhile.
			return true, nil
		}
		return true, keep(os.Getppid())
	}
	if boss, ok := supervisedBy(); ok {
		beSupervised(cfg, boss)
		return false, nil
	}
	if cfg.Mode == SuperviseNever || cfg.Mode == SuperviseAuto && os.Getpid() != 1 {
		return false, nil
	}
	return true, follow(ctx, cfg, 0, keeper{})
}

// follows reads followsVariable. A value that this process has inherited from
// another one does not count.
func follows(value string) (serving int, k keeper, ok bool) {
	var self int
	n, err := fmt.Sscanf(value, "%d %d %d %d", &self, &serving, &k.tells, &k.hears)
	return serving, k, err == nil && n == 4 && self == os.Getpid()
}

// keeper is a supervisor's end of the process that keeps its signals: two
// descriptors, which survive an exec.
type keeper struct{ tells, hears int }

// Supervised reports whether this process is watched by a supervisor, which
// is then the process that the service manager knows. It can be told once
// Supervise has been called.
func Supervised() bool { return os.Getenv(supervisorVariable) != "" }

// supervisedBy returns the pid of this process's supervisor. A variable that
// was inherited by another agent, such as one started by a plugin, does not
// count, and is removed from its environment.
func supervisedBy() (pid int, ok bool) {
	value, set := os.LookupEnv(supervisorVariable)
	if !set {
		return 0, false
	}
	pid, err := strconv.Atoi(value)
	if err == nil && pid > 0 {
		_, successor := os.LookupEnv(successorVariable)
		if os.Getppid() == pid || successor && descends(os.Getpid(), pid) {
			return pid, true
		}
	}
	_ = os.Unsetenv(supervisorVariable)
	return 0, false
}

// beSupervised tells the supervisor that this release knows what it is to
// be one, and claims what the service manager addressed to the supervisor.
func beSupervised(cfg SuperviseConfig, boss int) {
	for _, name := range []string{"LISTEN_PID", "WATCHDOG_PID"} {
		if os.Getenv(name) == strconv.Itoa(boss) {
			_ = os.Setenv(name, strconv.Itoa(os.Getpid()))
		}
	}
	exe, err := executablePath()
	if err == nil {
		err = os.MkdirAll(cfg.StateDir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(cfg.StateDir, supervisedFile), fmt.Appendf(nil, "%d %s\n", os.Getpid(), exe), 0o600)
	}
	if err != nil {
		cfg.Logger.Warn("the supervisor will stay on its release", "error", err)
	}
}

// superviseEnviron is this process's environment with one of the variables
// above set and the others removed.
func superviseEnviron(name, value string) []string {
	var env []string
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains([]string{supervisorVariable, followsVariable, keepsVariable}, name) {
			env = append(env, v)
		}
	}
	return append(env, name+"="+value)
}
