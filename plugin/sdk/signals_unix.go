//go:build unix

package sdk

import (
	"os"
	"os/signal"
	"syscall"
)

// handleSignals ends s in order on SIGTERM. The others are taken and dropped,
// not ignored, which what the plugin starts would inherit: SIGHUP comes when
// the host ends while a process of this group is stopped, SIGPIPE when the
// reader of the log has died. It returns what ends the handling.
func handleSignals(s *server) (stop func()) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sig := range got {
			if sig == syscall.SIGTERM {
				s.end()
			}
		}
	}()
	return func() {
		signal.Stop(got)
		close(got)
		<-done
	}
}

// endFamily asks what the plugin has started to end, which its host would do:
// a host has each plugin lead a process group.
func endFamily() {
	if pid := os.Getpid(); syscall.Getpgrp() == pid {
		_ = syscall.Kill(-pid, syscall.SIGTERM)
	}
}
