package plugintest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// locate has cmd execute exe through its descriptor, whatever its path names by
// then; an interpreter opens it by that path.
func locate(cmd *exec.Cmd, exe *os.File) {
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Path = "/proc/self/fd/3"
}

// awaitExit blocks until pid, a child, has exited, and leaves it unreaped, so
// that neither its id nor its group's can be another's.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// usage is what the process pid uses. Its processor time includes that which
// it wanted and had to wait for, so that a busy machine does not make a process
// look idle.
func usage(pid int) (processor time.Duration, resident int64, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return 0, 0, errors.Join(err, errors.ErrUnsupported)
	}
	for _, path := range threads {
		var ran, waited time.Duration
		data, err := os.ReadFile(path)
		if err == nil {
			_, err = fmt.Sscan(string(data), &ran, &waited)
		}
		if err == nil { // else the thread has ended
			processor += ran + waited
		}
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, 0, err
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		return 0, 0, fmt.Errorf("/proc/%d/statm: %q: %w", pid, data, err)
	}
	return processor, pages * int64(os.Getpagesize()), nil
}

// peer is the process that listens where conn leads.
func peer(conn net.Conn) (int, error) {
	raw, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("want a connection of a Unix socket, found %T", conn)
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if cerr := control.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return 0, cerr
	}
	if err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}
