package killtest

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// wardenEnv has this program be a warden, of the directory that it names: the
// name alone, by which the warden is none of what it looks for.
const wardenEnv = "PERENNIAL_KILL_WARDEN"

// warden is a process that ends what the test has started, and removes its
// directory, once the test has ended, however that was: one that runs into its
// time limit cleans up nothing.
type warden struct {
	cmd  *exec.Cmd
	line *os.File // its end is the test's
}

func newWarden(dir string) (*warden, error) {
	far, near, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, errors.Join(err, far.Close(), near.Close())
	}
	w := &warden{cmd: exec.Command(exe), line: near}
	w.cmd.Env = append(os.Environ(), wardenEnv+"="+filepath.Base(dir))
	w.cmd.Stdin = far
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is not for it
	if err := w.cmd.Start(); err != nil {
		return nil, errors.Join(err, far.Close(), near.Close())
	}
	return w, far.Close()
}

// end has everything ended and removed now.
func (w *warden) end() error {
	if w == nil {
		return nil
	}
	return errors.Join(w.line.Close(), w.cmd.Wait())
}

// ward is the main of the warden.
func ward(dir string) error {
	_, _ = io.Copy(io.Discard, os.Stdin)
	killAll(dir)
	return os.RemoveAll(dir)
}

// killAll kills what runs in dir or knows of it, and what that starts meanwhile.
func killAll(dir string) {
	for range 50 {
		left := false
		for _, p := range processes() {
			if !p.zombie && p.pid != os.Getpid() && p.of(dir) {
				left = true
				p.signal(syscall.SIGKILL)
			}
		}
		if !left {
			return
		}
	}
}
