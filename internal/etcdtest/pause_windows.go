package etcdtest

// Pause skips the test: Windows cannot stop a process.
func (s *Server) Pause() {
	s.tb.Helper()
	s.tb.Skip("no SIGSTOP on Windows")
}

// Resume skips the test, as Pause does.
func (s *Server) Resume() { s.Pause() }
