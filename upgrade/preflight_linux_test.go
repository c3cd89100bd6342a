package upgrade

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/disk"
	"github.com/perennial-go/perennial/upgrade/release"
)

// mounted puts the state directory of an agent on a file system of its own.
func mounted(t *testing.T, flags uintptr, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs a mount of its own, and mounting needs root: run the tests as root for this one")
	}
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Skipf("needs a mount of its own, and this environment forbids it: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// What cannot work is refused before the first byte, and says what is missing
// and where.
func TestPreflightNamesWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		flags   uintptr
		options string
		size    int64
		want    error
		says    []string
	}{
		"fits":      {options: "size=64m", size: 10 << 20},
		"noexec":    {flags: syscall.MS_NOEXEC, options: "size=64m", size: 10 << 20, want: disk.ErrNoExec, says: []string{"mounted noexec"}},
		"read-only": {flags: syscall.MS_RDONLY, options: "size=64m", size: 10 << 20, want: disk.ErrReadOnly, says: []string{"read-write"}},
		"too small": {options: "size=8m", size: 10 << 20, want: release.ErrNoSpace, says: []string{"14680064 bytes are needed", "8388608 are free"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := mounted(t, c.flags, c.options)
			u := &Upgrader{slots: slots{dir}}
			err := u.preflight(c.size)
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			for _, says := range c.says {
				if !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), dir) {
					t.Errorf("%q does not say %q and %s", err, says, dir)
				}
			}
		})
	}
}

// refused runs an agent in stateDir, asks for a release, and expects it to be
// refused with nothing left behind and the incumbent serving.
func refused(t *testing.T, stateDir string, pin func(*rig) release.Pin, says string) {
	t.Helper()
	r := prepareRig(t, 400*time.Millisecond, nil)
	if stateDir != "" {
		r.env.StateDir = stateDir
	}
	r.first(build{Version: "1.0.0"})
	p := pin(r)
	r.ask(p)
	s := r.ends(p.Version)
	if s.State != Failed || !strings.Contains(s.Reason, says) {
		t.Errorf("%s: %s; want failed for %q", s.State, s.Reason, says)
	}
	if s.Running.Version != "1.0.0" || r.serves("1.0.0").PID != r.cmd.Process.Pid {
		t.Errorf("running %s, want 1.0.0 in its old process", s.Running.Version)
	}
	if len(r.quarantined()) > 0 {
		t.Errorf("quarantined: %+v; the host is to blame", r.quarantined())
	}
	report, err := Inspect(r.env.StateDir)
	if err != nil || len(report.Slots) != 1 || len(report.Unfinished) > 0 {
		t.Errorf("slots %+v, unfinished %v, %v: want that of 1.0.0 alone", report.Slots, report.Unfinished, err)
	}
	left, err := filepath.Glob(filepath.Join(r.env.StateDir, downloadPrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestReleaseThatThisHostCannotRunIsRefusedBeforeItsStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file func(testing.TB) string
		says string
	}{
		"missing interpreter": {cProgram("int main(void) { return 0; }", "-Wl,--dynamic-linker=/lib/ld-of-another-system.so.1"),
			"needs the program interpreter /lib/ld-of-another-system.so.1, which this host does not have"},
		"missing library": {withoutLibrary, "needs the shared libraries libgone.so, which this host does not have"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, "", func(r *rig) release.Pin { return r.publishFile("1.1.0", c.file(t)) }, c.says)
		})
	}
}

// Between the look at a program's needs and its start they can go away.
func TestProgramThatLostItsNeedsIsTheEnvironmentsFailure(t *testing.T) {
	program := cProgram("int main(void) { return 0; }", "-Wl,--dynamic-linker=/lib/ld-of-another-system.so.1")(t)
	if f := unstartable(program, "fork/exec: no such file or directory"); f.class != BadEnvironment || !strings.Contains(f.reason, "/lib/ld-of-another-system.so.1, which this host does not have") {
		t.Errorf("%+v", f)
	}
	f := &failure{class: BadBinary, dead: true, reason: "exit status 127"}
	f.complete([]string{"./agent: error while loading shared libraries: libgone.so: cannot open"})
	if f.class != BadEnvironment || !strings.Contains(f.reason, "libgone.so") {
		t.Errorf("%+v", f)
	}
}

// Programs that do run here must not be refused: a static one, one with
// libraries, a script, and what is no program at all.
func TestNeedsOfARunnableProgramAreMet(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{self, "/bin/sh", "/bin/sleep", "/etc/passwd"} {
		if err := needs(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// The executable is moved into the slot: a copy would take its size on the
// disk, and a second pass of fsync beside a busy server.
func TestStagingMovesTheDownload(t *testing.T) {
	s := slots{t.TempDir()}
	data, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	download := filepath.Join(s.stateDir, "download-x")
	if err := os.WriteFile(download, data, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(download)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	ref := Ref{Version: "1.0.0", Manifest: "sha256:" + strings.Repeat("0", 64), Binary: hex.EncodeToString(sum[:])}
	slot, err := s.stage(Slot{Ref: ref}, []byte("{}"), []byte("signature"), download)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(slot.binary())
	if err != nil || !os.SameFile(before, after) || after.Mode() != 0o700 {
		t.Errorf("staged as %v, %v; want the same file with mode 0700", after, err)
	}
	if _, err := os.Stat(download); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the download is still there: %v", err)
	}
	if err := slot.verify(); err != nil {
		t.Error(err)
	}
}

// A host whose disk is too small goes on serving, and says how much it lacks.
func TestUpgradeOfAHostWithoutRoomIsRefusedWithTheBytes(t *testing.T) {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	room := self.Size()*3/2 + slotRoom // for the running release and half of the next
	dir := mounted(t, 0, fmt.Sprintf("size=%d", room))
	refused(t, dir, func(r *rig) release.Pin { return r.publish(build{Version: "1.1.0"}) }, "bytes are needed in "+dir)
}

func TestUpgradeOnANoexecMountIsRefusedBeforeTheDownload(t *testing.T) {
	dir := mounted(t, syscall.MS_NOEXEC, "size=256m")
	refused(t, dir, func(r *rig) release.Pin { return r.publish(build{Version: "1.1.0"}) }, "mounted noexec")
}

// A retained release is as good an older binary as the running one, and a slot
// that something wrote to is offered all the same: its digest is checked when
// it is used.
func TestEverySlotIsAnOlderBinary(t *testing.T) {
	s := slots{t.TempDir()}
	var want []string
	for _, v := range []string{"1.0.0", "1.1.0"} {
		slot := makeSlot(t, s, v)
		want = append(want, slot.Ref.Binary+" "+slot.binary())
	}
	var got []string
	for digest, path := range (&Upgrader{slots: s}).executables() {
		got = append(got, digest+" "+path)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
