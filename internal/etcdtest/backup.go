package etcdtest

import "os"

// Backup saves the server's data (restarting it meanwhile) and returns a
// function that puts them back: the same cluster, back in time.
func (s *Server) Backup() (restore func()) {
	s.tb.Helper()
	s.Stop()
	saved := s.tb.TempDir()
	s.copyData(saved, s.dir)
	s.start()
	return func() {
		s.tb.Helper()
		s.Kill()
		s.deleteData()
		s.copyData(s.dir, saved)
		s.start()
	}
}

func (s *Server) copyData(to, from string) {
	s.tb.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		s.tb.Fatalf("etcd data: %v", err)
	}
}
