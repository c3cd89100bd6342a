package plugin

import (
	"errors"
	"os"
	"os/exec"
)

func isolate(*exec.Cmd) {}

// killGroup ends the process alone: what it started stays.
func killGroup(p *os.Process) { _ = p.Kill() }

func textBusy(error) bool { return false }

func killProcess(int) error { return errors.ErrUnsupported }

// writableByAll knows nothing of access control lists.
func writableByAll(os.FileInfo) bool { return false }

// inode has no counterpart in what os.Stat returns here.
func inode(os.FileInfo) string { return "" }
