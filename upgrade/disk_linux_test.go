package upgrade

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// ownDisk is a rig whose state directory is a file system of its own, which can
// be filled and made read-only. It is mounted in a namespace that a process
// keeps, where the agents run; seen from here it lies under that process.
type ownDisk struct {
	*rig
	keeper int
	mount  string // in the namespace
}

// newDisk mounts a file system of that many MiB and starts nothing on it.
func newDisk(t *testing.T, mib int, probation time.Duration) *ownDisk {
	t.Helper()
	r := prepareRig(t, probation, nil)
	d := &ownDisk{rig: r, mount: r.env.StateDir}
	if err := os.Mkdir(d.mount, 0o700); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`mount -t tmpfs -o size=%dm none %q && echo mounted && exec cat`, mib, d.mount)
	keeper := exec.Command("unshare", "-rm", "sh", "-c", script) //nolint:gosec // the test's own
	in, err := keeper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := keeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := keeper.Start(); err != nil {
		t.Skipf("no namespace for a disk of its own: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = keeper.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		t.Skipf("this system allows no mount in a user namespace: %q, %v", line, err)
	}
	d.keeper = keeper.Process.Pid
	r.env.StateDir = fmt.Sprintf("/proc/%d/root%s", d.keeper, d.mount)
	r.command = func(binary string) *exec.Cmd { return exec.Command("nsenter", d.enter(binary)...) } //nolint:gosec // the test's own
	return d
}

// enter are the arguments of nsenter that run argv beside the disk.
func (d *ownDisk) enter(argv ...string) []string {
	return append([]string{"-t", strconv.Itoa(d.keeper), "-U", "-m", "--preserve-credentials"}, argv...)
}

// launch runs binary on the disk.
func (d *ownDisk) launch(binary string) {
	d.Helper()
	seen := d.env.StateDir
	d.env.StateDir = d.mount
	d.run(binary)
	d.env.StateDir = seen
	cmd, done := d.cmd, d.done
	d.Cleanup(func() {
		d.killHolder()
		_ = cmd.Process.Kill()
		<-done
		if d.Failed() {
			d.Log("agent's log:\n" + d.logged())
		}
	})
}

func (d *ownDisk) killHolder() {
	data, err := os.ReadFile(filepath.Join(d.env.StateDir, lockName))
	if err != nil || !isLocked(d.env.StateDir) {
		return
	}
	if pid, _ := strconv.Atoi(strings.TrimSpace(string(data))); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// cut ends all agents as a power cut does.
func (d *ownDisk) cut() {
	d.Helper()
	_ = d.cmd.Process.Kill()
	<-d.done
	d.killHolder()
	d.awaitFree()
}

// fill leaves no byte free, and is undone by empty.
func (d *ownDisk) fill() {
	d.Helper()
	f, err := os.OpenFile(filepath.Join(d.env.StateDir, "fill"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.Fatal(err)
	}
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			d.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		d.Fatal(err)
	}
}

func (d *ownDisk) empty() {
	d.Helper()
	d.removes("fill")
}

// remount has the disk be "ro" or "rw".
func (d *ownDisk) remount(how string) {
	d.Helper()
	out, err := exec.Command("nsenter", d.enter("mount", "-o", "remount,"+how, d.mount)...).CombinedOutput() //nolint:gosec // the test's own
	if err != nil {
		d.Fatalf("%v: %s", err, out)
	}
}

// journalOnDisk is what the next start will find.
func (d *ownDisk) journalOnDisk() Attempt {
	d.Helper()
	a, err := readJournal(filepath.Join(d.env.StateDir, journalFile))
	if err != nil {
		d.Fatal(err)
	}
	return a
}

func TestSuccessorWhoseCommitDoesNotFitOnTheDiskServesOnAndTheNextStartRecordsIt(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 256, 100*time.Millisecond)
	pauses := t.TempDir()
	d.env.Failpoints = map[string]string{"1.1.0": "ready=pause:" + pauses}
	installed := makeBinary(t, build{Version: "1.0.0"})
	d.launch(installed)
	d.serves("1.0.0")
	d.ask(d.publish(build{Version: "1.1.0"}))
	reached := filepath.Join(pauses, "ready")
	waittest.Nil(t, "the successor has said Ready", func() error { _, err := os.Stat(reached); return err })
	d.fill()
	if err := os.Remove(reached); err != nil {
		t.Fatal(err)
	}
	waittest.Next(t, "the incumbent ends", d.done)
	s := d.ends("1.1.0")
	if s.State != Committed || s.Running.Version != "1.1.0" {
		t.Errorf("%s (%s), running %s", s.State, s.Reason, s.Running.Version)
	}
	if a := d.journalOnDisk(); a.State != Committing {
		t.Fatalf("the full disk holds %s: nothing was tested", a.State)
	}
	// The status tells it a moment before the log does.
	waittest.Until(t, "the log tells that the commit could not be recorded", func() bool {
		return strings.Contains(d.logged(), "the commit could not be recorded")
	})
	d.serves("1.1.0")
	d.cut()
	d.empty()
	d.env.Failpoints = nil
	d.launch(installed)
	d.serves("1.1.0")
	if a := d.journalOnDisk(); a.State != Committed || !strings.HasPrefix(a.Reason, "finished at start") {
		t.Errorf("after the next start the journal says %s: %q", a.State, a.Reason)
	}
	cur, err := slots{d.env.StateDir}.current()
	if err != nil || cur.Version != "1.1.0" || cur.Proven.IsZero() {
		t.Errorf("current is %s, proven %s, %v", cur.Version, cur.Proven, err)
	}
	if q := d.quarantined(); len(q) > 0 {
		t.Errorf("quarantined: %+v", q)
	}
}

// What cannot be written must not keep a release from serving that is there;
// it is upgraded again once there is room.
func TestDiskThatTakesNoWritesDoesNotKeepCurrentFromStarting(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ spoil, mend func(*ownDisk) }{
		"full":      {(*ownDisk).fill, (*ownDisk).empty},
		"read-only": {func(d *ownDisk) { d.remount("ro") }, func(d *ownDisk) { d.remount("rw") }},
	} {
		for _, from := range []string{"installed", "current"} {
			t.Run(name+"/"+from, func(t *testing.T) {
				t.Parallel()
				d := newDisk(t, 256, 100*time.Millisecond)
				installed := makeBinary(t, build{Version: "1.0.0"})
				d.launch(installed)
				d.serves("1.0.0")
				d.upgraded("1.1.0")
				d.cut()
				c.spoil(d)
				started := installed
				if from == "current" {
					started = filepath.Join(d.mount, currentLink, binaryName)
				}
				for range bootsMax + 1 { // the boot guard cannot count, and must not guess
					d.launch(started)
					if w := d.serves("1.1.0"); w.PID != d.cmd.Process.Pid {
						t.Errorf("%+v serves, pid %d was started", w, d.cmd.Process.Pid)
					}
					d.cut()
				}
				d.launch(started)
				d.serves("1.1.0")
				pin := d.publish(build{Version: "1.2.0"})
				d.askAs(pin, "no-room")
				waittest.Until(t, "an upgrade is refused", func() bool { return strings.Contains(d.logged(), "request failed") })
				d.serves("1.1.0")
				c.mend(d)
				if name == "read-only" { // its lock is open for reading only
					d.cut()
					d.launch(started)
					d.serves("1.1.0")
				}
				d.askAs(pin, "room")
				if s := d.ends("room"); s.State != Committed || s.Running.Version != "1.2.0" {
					t.Errorf("with room: %s (%s), running %s", s.State, s.Reason, s.Running.Version)
				}
			})
		}
	}
}

func TestFirstStartOnADiskThatTakesNoWritesIsRefusedInOneSentence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*ownDisk)
		says  []string
	}{
		"full":      {(*ownDisk).fill, []string{"cannot be kept in the state directory", "no space left on device", "make room there and start again"}},
		"read-only": {func(d *ownDisk) { d.remount("ro") }, []string{"cannot be written", "read-only file system"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t, 1, 100*time.Millisecond)
			c.spoil(d)
			d.launch(makeBinary(t, build{Version: "1.0.0"}))
			waittest.Next(t, "the agent ends", d.done)
			for _, words := range c.says {
				if !strings.Contains(d.logged(), words) {
					t.Errorf("it does not say %q", words)
				}
			}
			if d.cmd.ProcessState.Success() {
				t.Error("it ended with code 0")
			}
			if _, err := os.Lstat(filepath.Join(d.env.StateDir, currentLink)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a release that is not there is current: %v", err)
			}
		})
	}
}
