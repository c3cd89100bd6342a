//go:build unix

package plugin

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// resume has a stopped process go on.
const resume = syscall.SIGCONT

// signalGroup sends to the group that p leads.
func signalGroup(p *os.Process, sig syscall.Signal) {
	_ = syscall.Kill(-p.Pid, sig)
}

func textBusy(err error) bool { return errors.Is(err, syscall.ETXTBSY) }
