//go:build unix

package plugin

import (
	"errors"
	"fmt"
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

func killProcess(pid int) error { return syscall.Kill(-pid, syscall.SIGKILL) }

// writableByAll reports whether everybody may write to the file.
func writableByAll(fi os.FileInfo) bool {
	return fi.Mode().Perm()&0o002 != 0 && fi.Mode()&os.ModeSticky == 0
}

// inode tells a file from another of the same name.
func inode(fi os.FileInfo) string {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprint(st.Dev, st.Ino)
	}
	return ""
}
