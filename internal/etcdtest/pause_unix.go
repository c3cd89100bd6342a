//go:build unix

package etcdtest

import "golang.org/x/sys/unix"

// Pause stops the process where it is, as a host that hangs does: connections
// stand, nothing is answered. Resume, or Kill, ends it.
func (s *Server) Pause() {
	s.tb.Helper()
	s.signal(unix.SIGSTOP)
	if err := awaitStop(s.process.cmd.Process.Pid); err != nil {
		s.tb.Fatalf("etcd %s: stopped: %v", s.addr, err)
	}
}

// Resume lets a paused process go on.
func (s *Server) Resume() {
	s.tb.Helper()
	s.signal(unix.SIGCONT)
}

func (s *Server) signal(sig unix.Signal) {
	s.tb.Helper()
	if s.process == nil {
		s.tb.Fatalf("etcd %s does not run", s.addr)
	}
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("etcd %s: %v: %v", s.addr, sig, err)
	}
}
