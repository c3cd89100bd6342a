package upgrade

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// launchers start an agent as its surroundings do. Each gives the command that
// runs the installed executable.
func launchers(t *testing.T) map[string]func(binary string) []string {
	t.Helper()
	all := map[string]func(string) []string{
		// systemd executes the installed file directly.
		"systemd": func(binary string) []string { return []string{binary} },
		// A shell on a terminal of its own: another session, a controlling
		// terminal.
		"terminal": func(binary string) []string { return []string{"script", "-qec", binary, "/dev/null"} },
		"container": func(binary string) []string {
			return []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc", binary}
		},
	}
	for name, try := range map[string][]string{"terminal": {"script", "-qec", "true", "/dev/null"}, "container": {"unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "true"}} {
		if out, err := exec.Command(try[0], try[1:]...).CombinedOutput(); err != nil {
			t.Logf("not started as in a %s: %v: %s", name, err, out)
			delete(all, name)
		}
	}
	return all
}

// kill ends what was started last and whatever agent holds the directory.
func (r *rig) kill() {
	r.Helper()
	if pid := r.holder(); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, p := range processes() {
		if p.parent == r.cmd.Process.Pid { // of a launcher
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	_ = r.cmd.Process.Kill()
	<-r.done
	r.awaitFree()
}

func TestReleaseThatFailsToStartColdIsGivenUpAfterThreeStarts(t *testing.T) {
	t.Parallel()
	for name, launch := range launchers(t) {
		for _, fault := range []string{"cold-exit", "cold-dies", "cold-dies-late", "cold-sick"} {
			t.Run(name+"/"+fault, func(t *testing.T) {
				t.Parallel()
				probation := 100 * time.Millisecond
				if fault == "cold-dies-late" {
					probation = 2 * time.Second // it is healthy for a moment
				}
				r := newRig(t, probation, nil)
				installed := r.cmd.Path
				bad := r.publish(build{Version: "1.1.0", Fault: fault})
				r.request(Request{ID: "1.1.0", Pin: bad, Traceparent: askedSpan})
				if s := r.ends("1.1.0"); s.State != Committed {
					t.Fatalf("%s: %s", s.State, s.Reason)
				}
				r.kill()
				// No network from here on.
				if err := os.Rename(r.env.Repository, r.env.Repository+".away"); err != nil {
					t.Fatal(err)
				}
				for i := range bootsMax {
					_ = os.Remove(r.env.Address)
					r.run(launch(installed)...)
					if fault == "cold-sick" {
						r.serves("1.1.0")
					} else {
						<-r.done
					}
					// Between any two the machine may have been rebooted: all
					// that is left is what lies on the disk.
					r.kill()
					if got := r.current(); got != "1.1.0" {
						t.Fatalf("given up after %d starts: current names %s", i+1, got)
					}
				}
				_ = os.Remove(r.env.Address)
				r.run(launch(installed)...)
				r.serves("1.0.0")
				r.gaveUp(bad)
				r.tracedGivingUp()
				if err := os.Rename(r.env.Repository+".away", r.env.Repository); err != nil {
					t.Fatal(err)
				}
				r.askAs(bad, "again")
				if s := r.ends("again"); s.State != Failed || !strings.Contains(s.Reason, "quarantined") {
					t.Errorf("the release that does not start was taken again: %s: %s", s.State, s.Reason)
				}
				if name == "systemd" { // the others end with their first process
					r.upgraded("1.2.0")
				}
				r.kill()
			})
		}
	}
}

// gaveUp expects that 1.1.0 was given up for 1.0.0 and that this is told.
func (r *rig) gaveUp(bad release.Pin) {
	r.Helper()
	if got := r.current(); got != "1.0.0" {
		r.Errorf("current names %s", got)
	}
	var s Status
	if err := r.get("/status", &s); err != nil {
		r.Fatal(err)
	}
	if s.State != RolledBack || s.By != ByBootGuard || s.To.Version != "1.1.0" || !strings.Contains(s.Reason, "never became healthy") {
		r.Errorf("status: %s by %q to %s: %s", s.State, s.By, s.To.Version, s.Reason)
	}
	if s.LastFailed == nil || s.LastFailed.Manifest != bad.Digest || s.LastFailed.Class != BadBinary {
		r.Errorf("last failed: %+v", s.LastFailed)
	}
	waittest.Nil(r, "the release that does not start is collected", func() error {
		complete, unfinished, err := (slots{r.env.StateDir}).list()
		if err == nil && len(complete)+len(unfinished) != 1 {
			err = fmt.Errorf("slots %v, unfinished %v", complete, unfinished)
		}
		return err
	})
}

func TestStartsThatReachHealthAreNotCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	installed := r.cmd.Path
	r.upgradeAndKill("1.1.0")
	for range bootsMax + 2 {
		r.start(installed)
		waittest.Until(r, "the count of starts ends", func() bool { return readBoots(r.env.StateDir) == boots{} })
		r.kill()
	}
	r.start(installed)
	r.serves("1.1.0")
}

// An agent that is stopped again and again before it is healthy, as by an
// impatient operator, has not failed.
func TestStopThatWasAskedForIsNoFailedStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	installed := r.cmd.Path
	r.ask(r.publish(build{Version: "1.1.0", Fault: "cold-sick"}))
	r.ends("1.1.0")
	r.kill()
	for range bootsMax + 2 {
		r.start(installed)
		waittest.Until(r, "the agent is in charge", func() bool { return r.holder() == r.cmd.Process.Pid })
		if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-r.done
	}
	if got := r.current(); got != "1.1.0" {
		t.Errorf("current names %s", got)
	}
}

// An outage is no reason to leave a release: all others would fail as well.
func TestOutageDoesNotGiveAReleaseUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	installed := r.cmd.Path
	r.ask(r.publish(build{Version: "1.1.0", Fault: "cold-offline"}))
	r.ends("1.1.0")
	r.kill()
	for range bootsMax + 2 {
		r.start(installed)
		waittest.Until(r, "the count of starts ends", func() bool { return readBoots(r.env.StateDir) == boots{} })
		r.kill()
	}
	if got := r.current(); got != "1.1.0" {
		t.Errorf("current names %s", got)
	}
}

// The release before may be gone, after its retention. The installed
// executable has come as far as deciding this, so it can start.
func TestInstalledExecutableIsTheLastResort(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	installed := r.cmd.Path
	bad := r.publish(build{Version: "1.1.0", Fault: "cold-exit"})
	r.ask(bad)
	r.ends("1.1.0")
	r.kill()
	s := slots{r.env.StateDir}
	complete, _, err := s.list()
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range complete {
		if slot.Version == "1.0.0" {
			if err := s.remove(slot.Name()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range bootsMax {
		r.run(installed)
		<-r.done
	}
	r.start(installed)
	r.serves("1.0.0")
	r.gaveUp(bad)
}

// A package may install a newer executable that does not work.
func TestInstalledExecutableThatFailsGivesWayToCurrent(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	waittest.Nil(r, "the first executable is adopted", func() error {
		_, err := slots{r.env.StateDir}.current()
		return err
	})
	r.kill()
	newer := makeBinary(t, build{Version: "1.5.0", Fault: "cold-dies"})
	for range bootsMax {
		r.run(newer)
		<-r.done
	}
	r.start(newer)
	r.serves("1.0.0")
	r.kill()
	r.start(newer)
	r.serves("1.0.0")
}

// Each crash of the guard itself must leave something that starts.
func TestCrashWhileAReleaseIsGivenUpStillGivesItUp(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"boot-counted", "abandon-quarantined", "commit-before-current", "commit-after-current", "commit-retired"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 100*time.Millisecond, nil)
			installed := r.cmd.Path
			bad := r.publish(build{Version: "1.1.0", Fault: "cold-exit"})
			r.ask(bad)
			r.ends("1.1.0")
			r.kill()
			for range bootsMax {
				r.run(installed)
				<-r.done
			}
			r.env.EarlyFailpoints = map[string]string{"1.0.0": point + "=kill"}
			r.run(installed)
			<-r.done
			r.env.EarlyFailpoints = nil
			r.start(installed)
			r.serves("1.0.0")
			r.gaveUp(bad)
		})
	}
}
