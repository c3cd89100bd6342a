package upgrade

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/disk"
	"github.com/perennial-go/perennial/upgrade/release"
)

// slotRoom is what a slot takes beside its executable.
const slotRoom = 4 << 20

// errUnrunnable: the release cannot run on this host as the host is.
var errUnrunnable = errors.New("the release cannot run on this host")

// preflight refuses a download that could not be staged or started, before
// its first byte. A download becomes the slot's executable without a copy.
// What a smaller form takes besides is checked where it is chosen. What is of the
// download already, whole or in part, takes its room no second time.
func (u *Upgrader) preflight(size int64, downloads ...string) error {
	if err := disk.CheckExec(u.slots.stateDir); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	var held int64
	for _, path := range downloads {
		held += size64(path) + size64(path+release.UnverifiedSuffix)
	}
	return disk.Check(u.slots.stateDir, max(size-held, 0)+slotRoom)
}

// size64 is the size of a regular file; 0 without one.
func size64(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

// needs returns an error when this host lacks what an executable names: the
// program interpreter, or a shared library. Whether it is for this platform
// at all shows at its start.
func needs(binary string) error {
	file, err := elf.Open(binary)
	if err != nil {
		return nil //nolint:nilerr // no ELF file, or a broken one: its start tells
	}
	defer func() { _ = file.Close() }()
	if !ours(file) {
		return nil
	}
	if name := interpreter(file); name != "" {
		return fmt.Errorf("%w: it needs the program interpreter %s, which this host does not have; install it or build the release statically", errUnrunnable, name)
	}
	libraries, err := file.ImportedLibraries()
	if err != nil || len(libraries) == 0 {
		return nil //nolint:nilerr // as above
	}
	if missing := missingLibraries(binary, loader(file)); len(missing) > 0 {
		return fmt.Errorf("%w: it needs the shared libraries %s, which this host does not have; install them or build the release statically", errUnrunnable, strings.Join(missing, ", "))
	}
	return nil
}

// loader is the program interpreter that file names.
func loader(file *elf.File) string {
	section := file.Section(".interp")
	if section == nil {
		return ""
	}
	data, err := section.Data()
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(data), "\x00")
}

// listTimeout bounds the loader's search for libraries.
const listTimeout = 10 * time.Second

// missingLibraries asks the loader itself, which alone knows where it looks:
// its --list maps the libraries and executes none of them, in glibc and musl.
// An answer that is not understood is none.
func missingLibraries(binary, loader string) (missing []string) {
	if loader == "" || runtime.GOOS != "linux" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	// It fails where something is missing, and that is what is asked.
	out, _ := exec.CommandContext(ctx, loader, "--list", binary).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		// glibc: "PATH: error while loading shared libraries: libx.so: cannot
		// open …", for the first one; musl: "Error loading shared library
		// libx.so: No such file or directory (needed by …)", for each.
		for _, words := range []string{"rror while loading shared libraries: ", "rror loading shared library "} {
			if _, rest, found := strings.Cut(line, words); found {
				name, _, _ := strings.Cut(strings.TrimSpace(rest), ":")
				missing = append(missing, printable(name, 200))
			}
		}
	}
	return missing
}
