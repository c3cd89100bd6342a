package upgrade

import (
	"os"
	"os/signal"

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

// signals is where a supervisor learns what happens.
type signals struct {
	set     []os.Signal
	arrived chan os.Signal
	child   chan os.Signal // a child has ended
}

// takeSignals takes the signals away from the program's handlers.
func takeSignals() *signals {
	s := &signals{child: make(chan os.Signal, 1)}
	for _, sig := range forwarded() {
		s.set = append(s.set, sig)
	}
	s.arrived = make(chan os.Signal, 2*len(s.set))
	signal.Reset(s.set...)
	s.listen()
	signal.Notify(s.child, unix.SIGCHLD)
	return s
}

func (s *signals) listen() { signal.Notify(s.arrived, s.set...) }

// hush ends listen and returns what had arrived before.
func (s *signals) hush() []unix.Signal {
	// This waits until each has been told that the kernel had delivered.
	signal.Stop(s.arrived)
	var rest []unix.Signal
	for {
		select {
		case sig := <-s.arrived:
			rest = append(rest, number(sig))
		default:
			return rest
		}
	}
}

func (s *signals) close() {
	s.hush()
	signal.Stop(s.child)
}

// number is sig as the system calls know it; all that os/signal delivers is.
func number(sig os.Signal) unix.Signal {
	n, _ := sig.(unix.Signal)
	return n
}
