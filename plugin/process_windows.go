package plugin

import (
	"os"
	"os/exec"
	"syscall"
)

func isolate(*exec.Cmd) {}

// resume stands for a signal that there is not here.
const resume = syscall.SIGTERM

// signalGroup ends the process alone, whatever the signal: what it started
// stays.
func signalGroup(p *os.Process, _ syscall.Signal) { _ = p.Kill() }

func textBusy(error) bool { return false }
