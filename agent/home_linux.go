package agent

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// bootFile tells one start of the kernel from another.
const bootFile = "/proc/sys/kernel/random/boot_id"

// home names the state directory whose lock file is given, on the kernel that
// runs: no two processes that are not from one line of releases hold the lock
// of one home. A copy of the directory, another machine and another boot of
// this one are other homes; another container with the same volume on the same
// machine is not. "" means that it cannot be told.
func home(lock string) string {
	boot, err := os.ReadFile(bootFile)
	if err != nil {
		return ""
	}
	info, err := os.Stat(lock)
	if err != nil {
		return ""
	}
	file, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s/%x/%d", strings.TrimSpace(string(boot)), file.Dev, file.Ino)
}
