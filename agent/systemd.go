package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/perennial-go/perennial/upgrade"
)

const (
	// notifyTimeout bounds one notification: a service manager that does not
	// read must not hold the agent up.
	notifyTimeout = time.Second
	// extendEvery and extendBy are how a drain asks for more time.
	extendEvery = 2 * time.Second
	extendBy    = 15 * time.Second
	// reloadSlack is what an upgrade may take beyond its own deadlines.
	reloadSlack = 30 * time.Second
)

// serviceManager tells systemd how this agent fares (sd_notify(3)). Without
// NOTIFY_SOCKET it says nothing. Only a process in charge speaks, so that the
// default NotifyAccess=main does: at commit the incumbent, still the main
// process, names its successor, and is silent from then on.
type serviceManager struct {
	log      *slog.Logger
	socket   string
	watchdog time.Duration // how long it waits for a sign of life; 0 for ever

	mu        sync.Mutex
	reloading bool
	silent    bool // there is nothing to say any more
}

func newServiceManager(log *slog.Logger) *serviceManager {
	return &serviceManager{log: log, socket: os.Getenv("NOTIFY_SOCKET")}
}

// begin finds out whether signs of life are wanted. WATCHDOG_PID names the
// process that systemd started; a successor has another pid and inherits the
// task with the environment. Where the variables are meant for another
// process they are removed, so that no successor takes them for its own.
func (s *serviceManager) begin(successor bool) {
	text := os.Getenv("WATCHDOG_USEC")
	if s.socket == "" || text == "" {
		return
	}
	pid := os.Getenv("WATCHDOG_PID")
	mine := pid == "" || successor || pid == strconv.Itoa(os.Getpid())
	if !mine {
		_ = os.Unsetenv("WATCHDOG_USEC") // fails for malformed names only
		_ = os.Unsetenv("WATCHDOG_PID")
		return
	}
	usec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || usec <= 0 {
		s.log.Warn("watchdog off: WATCHDOG_USEC is no number of microseconds", "text", text)
		return
	}
	s.watchdog = time.Duration(usec) * time.Microsecond
}

// ready is for a cold start, once the agent serves.
func (s *serviceManager) ready(version string) {
	s.tell("READY=1", status("serving "+version))
}

// follow reports an upgrade from the start of a successor on as a reload.
func (s *serviceManager) follow(u upgrade.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent || !s.reloading && u.State != upgrade.Starting {
		return
	}
	way := u.From.Version + " to " + u.To.Version
	switch {
	case u.State == upgrade.Starting:
		s.reloading = true
		s.tell("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(monotonic().Microseconds(), 10),
			status("upgrading "+way), extend(time.Until(u.Deadline)+reloadSlack))
	case u.State == upgrade.Probation:
		s.tell(status("upgrading "+way+": on probation"), extend(time.Until(u.Deadline)+reloadSlack))
	case u.State.Terminal():
		s.reloading = false
		s.tell("READY=1", status("serving "+u.Running.Version+"; upgrade "+way+" "+string(u.State)+": "+u.Reason))
	}
}

// superseded hands the service to the process that has committed. The sign of
// life gives that one its full time for the first of its own.
func (s *serviceManager) superseded(pid int, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := []string{"READY=1", "WATCHDOG=1", status("serving " + version)}
	if !upgrade.Supervised() && pid != 0 {
		lines = append([]string{"MAINPID=" + strconv.Itoa(pid)}, lines...)
	}
	s.silent = true
	s.tell(lines...)
}

// stopping reports the end of the service, and has systemd wait for the drain
// until the returned function is called, no longer than ctx.
func (s *serviceManager) stopping(ctx context.Context, reason string) (done func()) {
	s.mu.Lock()
	s.silent = true
	s.tell("STOPPING=1", status("draining: "+reason), extend(extendBy))
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { every(ctx, extendEvery, func() { s.tell(extend(extendBy)) }) })
	return func() {
		cancel()
		wait.Wait()
	}
}

// guard gives signs of life until ctx ends, as long as live says so. The first
// is due after a while: by then a successor's incumbent has named it, and what
// it says is heard.
func (s *serviceManager) guard(ctx context.Context, live func() bool) {
	if s.watchdog == 0 {
		return
	}
	starved := false
	every(ctx, s.watchdog/2, func() {
		if live() {
			starved = false
			s.alive()
			return
		}
		if !starved {
			s.log.Error("the agent is not live: the service manager is given no more signs of life and will end it", "duration", s.watchdog)
		}
		starved = true
	})
}

func (s *serviceManager) alive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.silent {
		s.tell("WATCHDOG=1")
	}
}

// every calls f after each period until ctx ends.
func every(ctx context.Context, period time.Duration, f func()) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// status is one line for systemctl status.
func status(text string) string {
	return "STATUS=" + strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ":")
}

func extend(by time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", max(by, 0).Microseconds())
}

// tell sends one notification. One that cannot be delivered is no reason to
// do anything else.
func (s *serviceManager) tell(lines ...string) {
	if s.socket == "" {
		return
	}
	if err := notify(s.socket, strings.Join(lines, "\n")); err != nil {
		s.log.Warn("the service manager was not told", "text", lines[0], "error", err)
	}
}

// notify sends message to the socket at path; @ begins an abstract name.
func notify(path, message string) (err error) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	if err = conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err == nil {
		_, err = conn.Write([]byte(message))
	}
	if closed := conn.Close(); err == nil {
		err = closed
	}
	return err
}
