package upgrade

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// cutRollback is a rig whose rollback of 1.1.0 is cut short at a step.
type cutRollback struct {
	*rig
	pin release.Pin
}

// interruptRollback has 1.1.0 rolled back, kills the incumbent at step, and
// before it the successor if both is true.
func interruptRollback(t *testing.T, bad build, successor, step string, both bool) *cutRollback {
	t.Helper()
	pauses := t.TempDir()
	r := newRig(t, 100*time.Millisecond, map[string]string{"1.0.0": step + "=pause:" + pauses, bad.Version: successor})
	pin := r.publish(bad)
	r.ask(pin)
	waittest.Nil(t, "the rollback has come to "+step, func() error { _, err := os.Stat(filepath.Join(pauses, step)); return err })
	if both {
		waittest.Until(t, "the successor is gone", func() bool { return len(r.strays(true)) == 0 })
	}
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-r.done
	r.awaitFree() // the successor sees its incumbent's end and ends
	r.env.Failpoints = nil
	return &cutRollback{r, pin}
}

// blamed expects that 1.1.0 has been rolled back and that nothing of why is
// lost.
func (r *cutRollback) blamed(reason string) {
	r.Helper()
	s := r.ends("1.1.0")
	if s.State != RolledBack || s.Class != BadBinary || !strings.Contains(s.Reason, reason) {
		r.Errorf("%s, class %q: %s; want rolled_back for %q", s.State, s.Class, s.Reason, reason)
	}
	if !slices.ContainsFunc(s.Log, func(line string) bool { return strings.HasPrefix(line, "test agent 1.1.0 pid ") }) {
		r.Errorf("what the release printed is lost: %q", s.Log)
	}
	q := r.quarantined()
	if len(q) != 1 || q[0].Manifest != r.pin.Digest || q[0].Class != BadBinary || q[0].Attempts != 1 || !strings.Contains(q[0].Reason, reason) {
		r.Errorf("quarantine: %+v", q)
	}
	if s.LastFailed == nil || s.LastFailed.Manifest != r.pin.Digest {
		r.Errorf("last failed: %+v", s.LastFailed)
	}
	if got := r.current(); got != "1.0.0" {
		r.Errorf("current names %s", got)
	}
}

// undone expects that the host program was told once, in one release.
func (r *cutRollback) undone(in string) {
	r.Helper()
	var told []string
	for line := range strings.Lines(r.hooks()) {
		if strings.HasPrefix(line, "after-rollback") {
			told = append(told, line)
		}
	}
	if want := "after-rollback in " + in + ": 1.0.0 to 1.1.0\n"; len(told) != 1 || told[0] != want {
		r.Errorf("the host program was told to undo %q, want %q once", told, want)
	}
}

func TestRollbackThatIsKilledKeepsTheBlameAndIsUndoneOnceByTheReleaseThatRuns(t *testing.T) {
	t.Parallel()
	const (
		sick = "disk: fault: always unhealthy"
		deaf = "did not take over within"
	)
	for _, c := range []struct {
		name      string
		bad       build
		successor string // its failpoints
		step      string
		alone     bool // the successor is left to itself
		reason    string
		undoneIn  string
	}{
		{"sick, before it is dismissed", build{Fault: "unhealthy"}, "", "rolling-back", false, sick, "1.0.0"},
		{"sick, before it is quarantined", build{Fault: "unhealthy"}, "", "dismissed", false, sick, "1.0.0"},
		{"sick, after it was quarantined", build{Fault: "unhealthy"}, "", "quarantined", false, sick, "1.0.0"},
		{"sick, left to itself", build{Fault: "unhealthy"}, "", "rolling-back", true, sick, "1.1.0"},
		{"deaf, while it is current", build{}, "take-over=hang", "rolling-back", false, deaf, "1.0.0"},
		{"deaf, after current went back", build{}, "take-over=hang", "reverted", false, deaf, "1.0.0"},
	} {
		c.bad.Version = "1.1.0"
		for _, from := range []string{"installed", "current"} {
			t.Run(c.name+"/"+from, func(t *testing.T) {
				t.Parallel()
				r := interruptRollback(t, c.bad, c.successor, c.step, !c.alone)
				started := r.cmd.Path
				if from == "current" {
					started = filepath.Join(r.env.StateDir, currentLink, binaryName)
				}
				r.start(started)
				if w := r.serves("1.0.0"); w.PID != r.cmd.Process.Pid {
					t.Errorf("%+v serves, pid %d was started", w, r.cmd.Process.Pid)
				}
				r.blamed(c.reason)
				r.undone(c.undoneIn)
				r.kill()
				r.start(started)
				r.serves("1.0.0")
				r.blamed(c.reason)
				r.undone(c.undoneIn)
				r.askAs(r.pin, "again")
				if s := r.ends("again"); s.State != Failed || !strings.Contains(s.Reason, "quarantined") {
					t.Errorf("it was taken again: %s: %s", s.State, s.Reason)
				}
			})
		}
	}
}
