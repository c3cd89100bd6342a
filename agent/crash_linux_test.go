package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// The crash matrix: at every step of an upgrade, a rollback, a drain and a
// collection, real processes are killed, or told to stop, and then the agent
// is started from current again.

// step is one failpoint on the way of an attempt, and who comes by there.
type step struct {
	name string
	in   string // "incumbent" or "successor"
	to   string // the release that is asked for
	// alone is true where no successor lives at this step.
	alone bool
	// ends is true where the step is one at which SIGTERM is tried as well.
	ends bool
}

// The releases of the matrix.
const (
	good = "1.1.0"
	sick = "1.1.1" // unhealthy, so that it is rolled back in probation
	deaf = "1.1.2" // hangs when it is told to commit
	next = "1.2.0"
)

func steps() []step {
	var all []step
	add := func(in, to string, alone bool, names ...string) {
		for _, name := range names {
			name, ends := strings.CutSuffix(name, "!")
			all = append(all, step{name, in, to, alone, ends})
		}
	}
	add("incumbent", good, true, "requested!", "download!", "downloaded", "stage-written", "stage-before-complete", "staged!", "starting!", "start")
	add("incumbent", good, false, "launched!", "offered", "hello", "serving", "paused", "probation!", "passed", "committing!",
		"commit-before-current", "commit-after-current!", "commit-retired", "commit-sent!", "superseded", "drain!", "drained")
	add("successor", good, false, "inherit!", "greeted", "served!", "take-over!", "log-inherited", "ready!", "committed", "inherit-registration")
	add("incumbent", sick, false, "resumed", "rolling-back!")
	add("incumbent", sick, true, "dismissed", "quarantined", "rolled-back", "collect-before-complete", "collect-after-complete!", "collected")
	add("incumbent", deaf, false, "resumed", "rolling-back", "reverted")
	return all
}

// hit is who is hit at a step, and how.
type hit struct {
	name   string
	signal syscall.Signal
	who    []string
}

func (s step) hits() []hit {
	kills := []hit{
		{"kill incumbent", syscall.SIGKILL, []string{"incumbent"}},
		{"kill successor", syscall.SIGKILL, []string{"successor"}},
		{"kill both", syscall.SIGKILL, []string{"incumbent", "successor"}},
	}
	stops := []hit{
		{"stop incumbent", syscall.SIGTERM, []string{"incumbent"}},
		{"stop both", syscall.SIGTERM, []string{"incumbent", "successor"}},
	}
	if s.alone {
		kills, stops = kills[:1], stops[:1]
	}
	if s.to == deaf {
		// Hung and alone, it is for the service manager to kill.
		kills = kills[1:]
	}
	if s.ends {
		return append(kills, stops...)
	}
	return kills
}

func TestCrashOrStopAtAnyStepLeavesAProvenReleaseThatUpgrades(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	pins := map[string]release.Pin{}
	for _, b := range []build{{Version: good}, {Version: sick, Sick: true}, {Version: deaf}, {Version: next}} {
		pins[b.Version] = f.publish(b)
	}
	cases := 0
	t.Run("matrix", func(t *testing.T) {
		for _, s := range steps() {
			for _, h := range s.hits() {
				cases++
				name := strings.ReplaceAll(fmt.Sprintf("%s %s of %s, %s", s.in, s.name, s.to, h.name), " ", "_")
				id := "m" + strconv.Itoa(cases)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					(&crash{member: f.with(t).member(id), step: s, hit: h, pins: pins}).run()
				})
			}
		}
	})
	t.Logf("%d cases: %d steps, each with every process that lives there killed, alone and together, and at the main ones told to stop", cases, len(steps()))
}

// with is the same fleet for a subtest.
func (f *fleet) with(tb testing.TB) *fleet {
	sub := *f
	sub.TB = tb
	return &sub
}

// crash is one case of the matrix.
type crash struct {
	*member
	step step
	hit  hit
	pins map[string]release.Pin
}

func (c *crash) run() {
	pauses := c.TempDir()
	spec := c.step.name + "=pause:" + pauses
	c.env.Failpoints = map[string]string{deaf: "take-over=hang"}
	if c.step.in == "successor" {
		c.env.Failpoints[good] = spec
	}
	c.env.Probation = 200 * time.Millisecond
	c.start()
	c.registered()
	if c.step.in == "incumbent" {
		c.arm(spec)
	}
	c.order(c.step.to)
	reached := filepath.Join(pauses, c.step.name)
	waittest.Nil(c, "the step "+c.step.name+" is reached", func() error { _, err := os.Stat(reached); return err })
	c.strike()
	if err := os.Remove(reached); err != nil {
		c.Fatal(err)
	}
	c.settle()
	c.survivor()
	c.endAll()
	c.env.Failpoints = nil
	c.launch(filepath.Join(c.state, "current", "agent"))
	c.takesOver()
	waittest.Nil(c, "all is as it should be", c.check)
	// Whoever follows the order sees its end; then the next one is given.
	waittest.Nil(c, "the order is acknowledged", func() error {
		res, err := c.dir.client.Get(c.ctx(), newKeys("").order(c.id))
		if err == nil && len(res.Kvs) > 0 {
			err = errors.New("it is still there")
		}
		return err
	})
	order := c.order(next)
	end, err := c.dir.Follow(c.ctx(), order, c.id, func(upgrade.Status) {})
	if err != nil || end.State != upgrade.Committed {
		c.Errorf("the next upgrade: %s: %s, %v", end.State, end.Reason, err)
	}
	// Whoever was hit: the attempt has ended once, and so has the next one.
	s, _ := c.scrape()
	if n := s.sum("perennial_upgrade_attempts_total"); n != 2 {
		c.Errorf("%v attempts were counted, want 2", n)
	}
	c.endAll()
}

func (c *crash) arm(spec string) {
	c.Helper()
	addr, err := os.ReadFile(c.state + "/address")
	if err != nil {
		c.Fatal(err)
	}
	res, err := http.PostForm("http://"+string(addr)+"/arm", url.Values{"spec": {spec}})
	if err != nil {
		c.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		c.Fatal(res.Status)
	}
}

func (c *crash) order(version string) Order {
	c.Helper()
	order, err := c.dir.Order(c.ctx(), c.id, upgrade.Request{Pin: c.pins[version], By: "matrix"})
	if err != nil {
		c.Fatal(err)
	}
	return order
}

// strike hits the processes and, for a kill, waits for their end.
func (c *crash) strike() {
	c.Helper()
	for i, who := range c.hit.who {
		pid := c.cmd.Process.Pid
		if who == "successor" {
			if i == 0 { // it lives here; one whose incumbent was hit before may have ended
				waittest.Until(c, "the successor is seen", func() bool { return c.successor() != 0 })
			}
			pid = c.successor()
		}
		if pid == 0 {
			continue
		}
		if err := syscall.Kill(pid, c.hit.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			c.Fatal(who, err)
		}
		if c.hit.signal == syscall.SIGKILL {
			waittest.Until(c, who+" is dead", func() bool { return !alive(pid) })
		}
	}
}

// pids are the live processes that execute a slot of this agent.
func (c *crash) pids() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		c.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err == nil && strings.HasPrefix(exe, c.state+"/slots/") && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// successor is the process that was started for the order; 0 if it has ended.
func (c *crash) successor() int {
	for _, pid := range c.pids() {
		if pid != c.cmd.Process.Pid {
			return pid
		}
	}
	return 0
}

// alive is false of a zombie, too.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest != "" && rest[0] != 'Z' && rest[0] != 'X'
}

// settle waits until what is left has come to rest: an agent in charge that
// has resolved the attempt, or nobody.
func (c *crash) settle() {
	c.Helper()
	waittest.Nil(c, "the survivors come to rest", func() error {
		report, err := upgrade.Inspect(c.state)
		if err != nil {
			return err
		}
		if !report.Running {
			return nil
		}
		if !report.Journal.State.Terminal() {
			return fmt.Errorf("the attempt is %s", report.Journal.State)
		}
		if pids := c.pids(); c.hit.signal == syscall.SIGTERM && slices.Contains(c.hit.who, "successor") && len(pids) > 0 {
			return fmt.Errorf("%v were told to stop and live", pids)
		}
		return c.one()
	})
	if c.hit.signal == syscall.SIGTERM {
		<-c.done
		if c.err != nil {
			c.Errorf("the incumbent was told to stop and ended with %v, want 0", c.err)
		}
	}
}

// survivor expects that who can serve on does: an incumbent without its
// successor, a successor on probation without its incumbent. A stop is nobody's
// fault.
func (c *crash) survivor() {
	c.Helper()
	report, err := upgrade.Inspect(c.state)
	if err != nil {
		c.Fatal(err)
	}
	if c.hit.signal == syscall.SIGTERM && c.step.to == good && len(report.Quarantine) > 0 {
		c.Errorf("quarantined for a stop: %+v", report.Quarantine)
	}
	trial := c.step.in == "incumbent" && c.step.to == good && !c.step.alone
	// Before its hello the successor need not be executed yet; from the commit on
	// it may be in charge already.
	begun := trial && !slices.Contains([]string{"launched", "offered", "commit-sent", "superseded", "drain", "drained"}, c.step.name)
	switch {
	case begun && c.hit.name == "kill incumbent" && !report.Running:
		c.Error("the successor did not go on alone")
	case trial && c.hit.name == "kill successor" && (begun || c.step.name == "offered") && !alive(c.cmd.Process.Pid):
		c.Error("the incumbent did not serve on")
	}
}

// one expects that exactly one process is there and that it serves what the
// registry says.
func (c *crash) one() error {
	holder, err := os.ReadFile(c.state + "/lock")
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(holder)))
	if err != nil || !alive(pid) {
		return fmt.Errorf("the lock names %q: %w", holder, err)
	}
	if pids := c.pids(); len(pids) > 1 || (len(pids) == 1 && pids[0] != pid) {
		return fmt.Errorf("%v live, %d is in charge", pids, pid)
	}
	entries, err := listed(c.ctx(), c.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.ID == c.id && e.PID == pid && e.State.State == Running {
			_, err := c.greets()
			return err
		}
	}
	return fmt.Errorf("pid %d is not registered as running", pid)
}

// endAll kills every process of this agent.
func (c *crash) endAll() {
	c.Helper()
	for _, pid := range append(c.pids(), c.cmd.Process.Pid) {
		if pid == c.cmd.Process.Pid {
			_ = c.cmd.Process.Kill() // not a number that was given to another
		} else {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	<-c.done
	waittest.Nil(c, "the state directory is free", func() error {
		report, err := upgrade.Inspect(c.state)
		if err == nil && report.Running {
			err = errors.New("it is locked")
		}
		return err
	})
}

// check holds the invariants against what the restarted agent shows. It may
// still be collecting what the crash left.
func (c *crash) check() error {
	report, err := upgrade.Inspect(c.state)
	if err != nil {
		return err
	}
	a := report.Journal
	if !a.State.Terminal() || (a.State != upgrade.Committed && a.Reason == "") {
		return fmt.Errorf("the journal says %s because %q: want an end and why", a.State, a.Reason)
	}
	want := "1.0.0"
	if a.State == upgrade.Committed {
		want = c.step.to
	}
	slots := map[string]bool{}
	for _, s := range report.Slots {
		slots[s.Version] = true
		if s.Name() == report.Current && s.Proven.IsZero() {
			return fmt.Errorf("current names %s, which was never proven", s.Name())
		}
		if s.Name() != report.Current && s.Retired.IsZero() {
			return fmt.Errorf("slot %s is neither current nor retired: leaked", s.Name())
		}
	}
	if !strings.HasPrefix(report.Current, want+"-") || !slots["1.0.0"] || len(report.Unfinished) > 0 || (want == "1.0.0" && len(slots) > 1) {
		return fmt.Errorf("%s, so want %s: current %s, slots %v, unfinished %v", a.State, want, report.Current, slots, report.Unfinished)
	}
	left, err := filepath.Glob(filepath.Join(c.state, ".tmp-*"))
	if err != nil || len(left) > 0 {
		return fmt.Errorf("left behind: %v, %w", left, err)
	}
	return c.told(a, want)
}

// told expects that the registry says what runs, and the status what the
// journal says.
func (c *crash) told(a upgrade.Attempt, want string) error {
	entries, err := listed(c.ctx(), c.dir)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.ID == c.id && e.Status != nil })
	if i < 0 {
		return errors.New("it is not in the registry")
	}
	e := entries[i]
	if e.Version != want || e.PID != c.cmd.Process.Pid || e.Status.Upgrade.Running.Version != want {
		return fmt.Errorf("the registry says %s in %d, running %s; want %s in %d", e.Version, e.PID, e.Status.Upgrade.Running.Version, want, c.cmd.Process.Pid)
	}
	// The status is shorter: whole seconds, and of the log and the words as much as
	// there is room for.
	short, reason := e.Status.Upgrade.Attempt, a.Reason
	if (short.Reason == "") != (reason == "") || !strings.HasPrefix(reason, strings.TrimSuffix(short.Reason, "…")) || len(short.Log) > len(a.Log) {
		return fmt.Errorf("the status in etcd tells the reason %q and %d lines of the log, the journal %q and %d", short.Reason, len(short.Log), reason, len(a.Log))
	}
	a.Started, a.Updated, a.Deadline = a.Started.Truncate(time.Second), a.Updated.Truncate(time.Second), a.Deadline.Truncate(time.Second)
	a.Reason, a.Log, a.Earlier = short.Reason, short.Log, short.Earlier
	told, err := json.Marshal(short)
	if err != nil {
		return err
	}
	kept, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if string(told) != string(kept) {
		return fmt.Errorf("the status in etcd tells\n%s\nthe journal\n%s", told, kept)
	}
	return nil
}
