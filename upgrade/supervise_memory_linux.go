package upgrade

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// rest gives back what the supervisor needed to get here, once nothing is
// left to do but to wait: the heap, and the pages of its executable, which the
// kernel maps again where they are needed. That comes last, for a kernel that
// keeps files in large pieces maps up to 2 MiB for the first instruction that
// is executed there.
func (s *supervisor) rest() {
	debug.FreeOSMemory()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		s.log.Warn("the executable's pages stay in memory", "error", err)
		return
	}
	s.log.Debug("the supervisor is at rest")
	for _, m := range cleanMappings(smaps) {
		_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

// mapping is one range of addresses.
type mapping struct{ from, to uintptr }

// cleanMappings finds in smaps (proc(5)) the private read-only mappings of
// files without a page of their own, in memory or swapped out. Any other may
// hold the only copy of its pages, such as relocated data.
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

// cacheInSmallPieces has the kernel keep a file that was just written in
// pieces of a page. It was written at once, so it is in pieces of some MiB,
// and each that a supervisor touches would count as its memory as a whole
// (Linux 6.18: 19 MiB instead of 6). Only a supervised agent has a use for
// that; no failure matters.
func cacheInSmallPieces(path string) {
	if _, supervised := os.LookupEnv(supervisorVariable); !supervised {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	fd := int(f.Fd())
	if unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) != nil || unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM) != nil {
		return
	}
	// The successor must not wait for the disk.
	_, _ = io.Copy(io.Discard, f)
}
