package plugin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/perennial-go/perennial/internal/openfiles"
)

// clockTicks is USER_HZ, which is 100 on every architecture of Linux that Go
// supports.
const clockTicks = 100

const elfMagic = "\x7fELF"

// locate has cmd execute exe through its descriptor. done must be called once
// cmd has been started.
func locate(cmd *exec.Cmd, exe *os.File) (done func(), err error) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		cmd.Path = exe.Name()
		return func() {}, nil
	}
	magic := make([]byte, len(elfMagic))
	if _, err := exe.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if string(magic) != elfMagic {
		// An interpreter opens it by this path, so it has to stay open.
		cmd.ExtraFiles = []*os.File{exe}
		cmd.Path = "/proc/self/fd/3"
		return func() {}, nil
	}
	// A binary needs the descriptor until its exec only, which closes it. The
	// runtime moves a descriptor of its own, in the child, to the number after
	// the highest that it passes on: that must not be exe's.
	fd := exe.Fd()
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(null) }()
	high, err := unix.FcntlInt(uintptr(null), unix.F_DUPFD_CLOEXEC, int(fd)+1)
	if err != nil {
		return nil, err
	}
	stdin := os.NewFile(uintptr(high), os.DevNull)
	cmd.Stdin = stdin
	cmd.Path = fmt.Sprintf("/proc/self/fd/%d", fd)
	return func() { _ = stdin.Close() }, nil
}

// procStat returns the fields of /proc/PID/stat from the state on (field 3).
func procStat(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// The command's name may hold blanks and parentheses.
	_, rest, ok := strings.Cut(string(data[max(bytes.LastIndexByte(data, ')'), 0):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 22 {
		return nil, fmt.Errorf("/proc/%d/stat: want 24 fields and more, found %q", pid, data)
	}
	return fields, nil
}

// identify returns what tells the process pid from a later one with its id:
// the boot and the start time in ticks since then. A zombie has none.
func identify(pid int) (string, error) {
	fields, err := procStat(pid)
	if err != nil {
		return "", err
	}
	if fields[0] == "Z" {
		return "", os.ErrProcessDone
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(boot)) + "/" + fields[19], nil
}

// stopped reports whether the process pid stands still, by a signal or a
// debugger.
func stopped(pid int) bool {
	fields, err := procStat(pid)
	return err == nil && strings.EqualFold(fields[0], "T")
}

// measure reads what a process uses.
func measure(pid int) Usage {
	var u Usage
	fields, err := procStat(pid)
	if err != nil {
		return u
	}
	for _, f := range fields[11:13] { // utime, stime
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err == nil {
			u.CPUSeconds += float64(ticks) / clockTicks
		}
	}
	if pages, err := strconv.ParseInt(fields[21], 10, 64); err == nil {
		u.RSSBytes = pages * int64(os.Getpagesize())
	}
	u.OpenFDs, _ = openfiles.Count(strconv.Itoa(pid)) // 0 where that cannot be told
	return u
}
