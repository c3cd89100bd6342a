package plugintest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockTicks is USER_HZ, which is 100 on every architecture of Linux that Go
// supports.
const clockTicks = 100

// awaitExit blocks until pid, a child, has exited, and leaves it unreaped, so
// that neither its id nor its group's can be another's.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// usage is what the process pid uses.
func usage(pid int) (processor time.Duration, resident int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The command's name may hold blanks and parentheses.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 22 {
		return 0, 0, fmt.Errorf("/proc/%d/stat: want 24 fields and more, found %q", pid, data)
	}
	var n [3]int64
	for i, at := range []int{11, 12, 21} { // utime, stime, rss, counted from the state on
		if n[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return 0, 0, err
		}
	}
	return time.Duration(n[0]+n[1]) * time.Second / clockTicks, n[2] * int64(os.Getpagesize()), nil
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
