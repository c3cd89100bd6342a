package upgrade

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// rest gives back what the supervisor needed to get here, once nothing is
// left to do but to wait: the heap of the program's start, and the pages of
// its executable, which the kernel reads again where they are needed.
func (s *supervisor) rest() {
	if s.rested {
		return
	}
	s.rested = true
	debug.FreeOSMemory()
	if err := dropFilePages(); err != nil {
		s.log.Debug("the executable's pages stay in memory", "error", err)
	}
}

// mapping is one range of addresses.
type mapping struct{ from, to uintptr }

// dropFilePages forgets the pages of mapped files that differ in nothing from
// the files. A mapping that is or was writable may hold the only copy of its
// pages, such as relocated data, so one with a single page of its own is left
// alone.
func dropFilePages() error {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	for _, m := range cleanMappings(smaps) {
		if _, _, errno := unix.RawSyscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); errno != 0 {
			return os.NewSyscallError("madvise", errno)
		}
	}
	return nil
}

// cleanMappings finds in smaps (proc(5)) the private read-only mappings of
// files without a page of their own, in memory or swapped out.
func cleanMappings(smaps []byte) []mapping {
	var found []mapping
	var m mapping
	var anonymous, swap string
	file := false
	lines := bufio.NewScanner(bytes.NewReader(smaps))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) >= 5 && !strings.HasSuffix(f[0], ":"):
			m, anonymous, swap = mapping{}, "", ""
			_, err := fmt.Sscanf(f[0], "%x-%x", &m.from, &m.to)
			file = err == nil && len(f) >= 6 && strings.HasPrefix(f[5], "/") && strings.HasPrefix(f[1], "r-") && strings.HasSuffix(f[1], "p")
		case len(f) < 2:
		case f[0] == "Anonymous:":
			anonymous = f[1]
		case f[0] == "Swap:":
			swap = f[1]
		case f[0] == "VmFlags:":
			// The last line of each mapping.
			if file && anonymous == "0" && swap == "0" {
				found = append(found, m)
			}
		}
	}
	return found
}
