package upgrade

import (
	"os"
	"os/signal"
	"reflect"
	"time"

	"golang.org/x/sys/unix"
)

// forwarded lists the signals that a supervisor passes on. Those are left out
// that tell of this process alone or of its terminal, and a SIGHUP or SIGINT
// that is ignored, as under nohup.
func forwarded() []unix.Signal {
	var set []unix.Signal
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT} {
		if !signal.Ignored(sig) {
			set = append(set, sig)
		}
	}
	set = append(set, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGTERM, unix.SIGWINCH, unix.SIGIO, unix.SIGPWR)
	// The C libraries keep the first three real-time signals to themselves.
	for sig := unix.Signal(35); sig <= 64; sig++ {
		set = append(set, sig)
	}
	return set
}

// signals is where a supervisor learns what happens. Each signal has a channel
// of its own, so that many of one kind never crowd out one of another.
type signals struct {
	set     []unix.Signal
	arrived []chan os.Signal
	child   chan os.Signal // a child has ended
}

// takeSignals takes the signals away from the program's handlers.
func takeSignals() *signals {
	s := &signals{set: forwarded(), child: make(chan os.Signal, 1)}
	for _, sig := range s.set {
		s.arrived = append(s.arrived, make(chan os.Signal, 1))
		signal.Reset(sig)
	}
	s.listen()
	signal.Notify(s.child, unix.SIGCHLD)
	return s
}

func (s *signals) listen() {
	for i, sig := range s.set {
		signal.Notify(s.arrived[i], sig)
	}
}

// hush ends listen and returns what had arrived before.
func (s *signals) hush() []unix.Signal {
	var rest []unix.Signal
	for i, sig := range s.set {
		// This waits until it has been told what the kernel had delivered.
		signal.Stop(s.arrived[i])
		select {
		case <-s.arrived[i]:
			rest = append(rest, sig)
		default:
		}
	}
	return rest
}

func (s *signals) close() {
	s.hush()
	signal.Stop(s.child)
}

// wait returns the signal that has arrived, 0 for anything else to look at:
// the end of a child, a tick, or the end of stop.
func (s *signals) wait(tick <-chan time.Time, stop <-chan struct{}) (sig unix.Signal, stopped bool) {
	others := []any{s.child, tick, stop}
	cases := make([]reflect.SelectCase, 0, len(s.set)+len(others))
	for _, c := range s.arrived {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)})
	}
	for _, c := range others {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)})
	}
	n, _, _ := reflect.Select(cases)
	if n < len(s.set) {
		return s.set[n], false
	}
	return 0, n == len(cases)-1
}
