package upgrade

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perennial-go/perennial/internal/waittest"
)

// noteSignals has the test agent add a byte to a file for each SIGUSR1 and
// SIGHUP.
func noteSignals(env agentEnv) {
	if env.Supervise == "" {
		return
	}
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGHUP} {
		c := make(chan os.Signal, 1)
		signal.Notify(c, sig)
		go func() {
			for range c {
				f, err := os.OpenFile(signalFile(env, sig), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
				if err != nil {
					fmt.Fprintln(os.Stderr, "signals:", err)
					continue
				}
				_, _ = f.WriteString(".")
				_ = f.Close()
			}
		}()
	}
}

func signalFile(env agentEnv, sig syscall.Signal) string {
	return env.Address + "." + unix.SignalName(sig)
}

// superviseHandlers lets a test have the serving process do what a
// supervisor has to cope with.
func superviseHandlers(mux *http.ServeMux) {
	mux.HandleFunc("POST /exit", func(http.ResponseWriter, *http.Request) { os.Exit(7) })
	mux.HandleFunc("POST /orphan", func(w http.ResponseWriter, _ *http.Request) {
		// The shell ends, its child goes on.
		out, err := exec.Command("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").Output()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		_, _ = w.Write(out)
	})
}

// supervised is a rig whose first process is a supervisor.
type supervised struct {
	*rig
	root string // of all that the test makes
}

func prepareSupervised(t *testing.T, probation time.Duration) *supervised {
	t.Helper()
	r := prepareRig(t, probation, nil)
	// Five times as long without a report ends a probation, and these tests
	// want none to end on a busy machine.
	r.env.Supervise, r.env.HealthEvery = SuperviseAlways, 400*time.Millisecond
	s := &supervised{r, filepath.Dir(filepath.Dir(r.env.StateDir))}
	t.Cleanup(func() {
		// The supervisor first: it would report the death of the others.
		_ = r.cmd.Process.Kill()
		<-r.done
		for _, pid := range s.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		waittest.Until(t, "all processes have ended", func() bool { return len(s.processes()) == 0 })
		if t.Failed() {
			t.Log("agent's log:\n" + r.logged())
		}
	})
	return s
}

func startSupervised(t *testing.T, probation time.Duration) *supervised {
	t.Helper()
	s := prepareSupervised(t, probation)
	s.start(makeBinary(t, build{Version: "1.0.0"}))
	return s
}

// processes are those that execute a release of this test.
func (s *supervised) processes() []int {
	var pids []int
	for _, p := range processes() {
		if strings.HasPrefix(executableOf(p.pid), s.root+"/") && p.pid != os.Getpid() {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// supervisor is the pid of the first process, seen from here.
func (s *supervised) supervisor() int {
	if s.command == nil {
		return s.cmd.Process.Pid
	}
	for _, pid := range descendants(s.cmd.Process.Pid) {
		if parentOf(pid) == s.cmd.Process.Pid {
			return pid
		}
	}
	return 0
}

// executes waits until the supervisor executes the release version.
func (s *supervised) executes(version string) {
	s.Helper()
	waittest.Nil(s, "the supervisor executes "+version, func() error {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.supervisor()))
		if err == nil && !strings.HasPrefix(filepath.Base(filepath.Dir(exe)), version+"-") {
			err = errors.New("it executes " + exe)
		}
		return err
	})
}

func (s *supervised) upgradeTo(version string) {
	s.Helper()
	s.ask(s.publish(build{Version: version}))
	if st := s.ends(version); st.State != Committed {
		s.Fatalf("%s: %s: %s", version, st.State, st.Reason)
	}
}

// signal sends sig to the supervisor.
func (s *supervised) signal(sig syscall.Signal) {
	s.Helper()
	if err := syscall.Kill(s.supervisor(), sig); err != nil {
		s.Fatal(err)
	}
}

// endsWith waits for the end of the supervisor and of all that it has had.
func (s *supervised) endsWith(code int) {
	s.Helper()
	waittest.Next(s, "the supervisor ends", s.done)
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.Errorf("the supervisor ended with %v, want code %d", s.cmd.ProcessState, code)
	}
	if left := s.processes(); len(left) > 0 {
		s.Errorf("processes %v are left", left)
	}
}

// state waits until the journal says state.
func (s *supervised) state(want State) {
	s.Helper()
	waittest.Nil(s, "the attempt is "+string(want), func() error {
		a, err := readJournal(filepath.Join(s.env.StateDir, journalFile))
		if err == nil && a.State != want {
			err = errors.New("it is " + string(a.State))
		}
		return err
	})
}

func TestPID1OfAContainerStaysThroughTwentyUpgrades(t *testing.T) {
	t.Parallel()
	s := prepareSupervised(t, 100*time.Millisecond)
	s.command = func(binary string) *exec.Cmd {
		return exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", binary)
	}
	if out, err := s.command("true").CombinedOutput(); err != nil {
		t.Skipf("no pid namespace can be made here (root and unshare are needed): %v: %s", err, out)
	}
	s.env.Supervise = SuperviseAuto
	s.start(makeBinary(t, build{Version: "1.0.0"}))
	first := s.supervisor()
	l := startLoad(s.rig, 2, pace)
	for i := 1; i <= 20; i++ {
		version := fmt.Sprintf("1.%d.0", i)
		s.upgradeTo(version)
		s.executes(version)
	}
	l.end(t, false)
	if pid := s.supervisor(); pid != first {
		t.Errorf("pid 1 was process %d, now it is %d", first, pid)
	}
	if w := s.serves("1.20.0"); w.PID == 1 {
		t.Error("pid 1 serves itself")
	}
	proc := fmt.Sprintf("/proc/%d/root/proc", first)
	waittest.Nil(t, "only pid 1 and the serving process are left", func() error {
		if found := statesIn(t, proc); len(found) != 2 || slices.Contains(found, "Z") {
			return fmt.Errorf("states %v", found)
		}
		return nil
	})
	s.signal(syscall.SIGTERM)
	s.endsWith(0)
}

// statesIn returns the states of the processes in a /proc of another
// namespace.
func statesIn(t *testing.T, proc string) []string {
	t.Helper()
	files, err := filepath.Glob(proc + "/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, f := range files {
		if stat, err := os.ReadFile(f); err == nil {
			states = append(states, string(bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])[0]))
		}
	}
	return states
}

func TestSignalsThatArriveWhileTheSupervisorChangesItsReleaseAreForwarded(t *testing.T) {
	t.Parallel()
	s := startSupervised(t, 100*time.Millisecond)
	stop, storm := make(chan struct{}), make(chan error, 1)
	go func() { storm <- s.storm(stop) }()
	for i := 1; i <= 6; i++ {
		version := fmt.Sprintf("1.%d.0", i)
		s.upgradeTo(version)
		s.executes(version)
	}
	close(stop)
	if err := waittest.Next(t, "the last signal is noted", storm); err != nil {
		t.Error(err)
	}
	s.signal(syscall.SIGTERM)
	s.endsWith(0)
}

// storm sends SIGHUP, which ends a process that does not handle it, about
// every millisecond, and SIGUSR1 whenever the one before has reached the agent,
// which may have noted it twice.
func (s *supervised) storm(stop <-chan struct{}) error {
	sent := 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for pid := s.supervisor(); ; {
		before := s.noted(syscall.SIGUSR1)
		if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
			return err
		}
		sent++
		for limit := time.Now().Add(waittest.Patience); s.noted(syscall.SIGUSR1) == before; <-tick.C {
			if time.Now().After(limit) {
				return fmt.Errorf("SIGUSR1 number %d was lost", sent)
			}
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
				return err
			}
		}
		select {
		case <-stop:
			s.Logf("%d SIGUSR1 were sent, %d and %d SIGHUP noted", sent, s.noted(syscall.SIGUSR1), s.noted(syscall.SIGHUP))
			return nil
		default:
		}
	}
}

func (s *supervised) noted(sig syscall.Signal) int {
	info, err := os.Stat(signalFile(s.env, sig))
	if err != nil {
		return 0
	}
	return int(info.Size())
}

func TestSupervisorFollowsTheSuccessorOfAKilledIncumbent(t *testing.T) {
	t.Parallel()
	s := startSupervised(t, time.Second)
	s.ask(s.publish(build{Version: "1.1.0"}))
	s.state(Probation)
	if err := syscall.Kill(s.holder(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := s.ends("1.1.0"); st.State != Committed {
		t.Fatalf("%s: %s", st.State, st.Reason)
	}
	s.executes("1.1.0")
	s.upgradeTo("1.2.0")
	s.executes("1.2.0")
	s.signal(syscall.SIGTERM)
	s.endsWith(0)
}

func TestSupervisorEndsAsTheServingProcessDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(s *supervised)
		code int
	}{
		{"exit code", func(s *supervised) { s.post("/exit") }, 7},
		{"killed", func(s *supervised) { _ = syscall.Kill(s.holder(), syscall.SIGKILL) }, 128 + 9},
		{"the successor of a killed incumbent fails as well", func(s *supervised) {
			s.ask(s.publish(build{Version: "1.1.0", Fault: "unhealthy"}))
			s.state(Probation)
			_ = syscall.Kill(s.holder(), syscall.SIGKILL)
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startSupervised(t, 2*time.Second)
			orphan := s.orphan()
			c.end(s)
			s.endsWith(c.code)
			if alive(orphan) {
				t.Errorf("orphan %d has outlived the agent", orphan)
			}
		})
	}
}

func (s *supervised) post(path string) string {
	s.Helper()
	res, err := fresh().Post(s.url(path), "", nil)
	if err != nil {
		return "" // it was asked to end
	}
	defer func() { _ = res.Body.Close() }()
	line, _ := bufio.NewReader(res.Body).ReadString('\n')
	return strings.TrimSpace(line)
}

// orphan has the serving process leave one, and returns its pid.
func (s *supervised) orphan() int {
	s.Helper()
	pid, err := strconv.Atoi(s.post("/orphan"))
	if err != nil {
		s.Fatal(err)
	}
	return pid
}

func TestStopAtAnyStepOfAnUpgradeEndsTheSupervisedAgentWithCode0(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault string
		sig   syscall.Signal
		reach func(s *supervised)
	}{
		{"serving", "", syscall.SIGTERM, nil},
		{"serving, from a terminal", "", syscall.SIGINT, nil},
		{"starting", "hang", syscall.SIGTERM, func(s *supervised) { s.state(Starting) }},
		{"probation", "", syscall.SIGTERM, func(s *supervised) { s.state(Probation) }},
		{"committed", "", syscall.SIGTERM, func(s *supervised) { s.state(Committed) }},
		{"alone", "", syscall.SIGTERM, func(s *supervised) {
			s.state(Probation)
			_ = syscall.Kill(s.holder(), syscall.SIGKILL)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if signal.Ignored(c.sig) {
				t.Skipf("%v is ignored here, as in a shell's background, and agents inherit that", c.sig)
			}
			t.Parallel()
			probation := 2 * time.Second
			if c.name == "committed" {
				probation = 50 * time.Millisecond
			}
			s := startSupervised(t, probation)
			if c.reach != nil {
				s.ask(s.publish(build{Version: "1.1.0", Fault: c.fault}))
				c.reach(s)
			}
			s.signal(c.sig)
			s.endsWith(0)
		})
	}
}

func TestOrphanOfASupervisedAgentIsReaped(t *testing.T) {
	t.Parallel()
	s := startSupervised(t, time.Second)
	orphan := s.orphan()
	waittest.Until(t, "the orphan is the supervisor's", func() bool { return parentOf(orphan) == s.supervisor() })
	if err := syscall.Kill(orphan, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the orphan is gone, no zombie", func() bool { _, there := processOf(orphan); return !there })
	s.serves("1.0.0")
}

func TestReleaseThatCannotSuperviseIsNotExecutedAsTheSupervisor(t *testing.T) {
	t.Parallel()
	s := startSupervised(t, 100*time.Millisecond)
	s.ask(s.publish(build{Version: "1.1.0", Fault: "unsupervised"}))
	s.ends("1.1.0")
	waittest.Until(t, "the supervisor knows", func() bool { return strings.Contains(s.logged(), "cannot supervise") })
	s.upgradeTo("1.2.0")
	s.executes("1.2.0")
	s.signal(syscall.SIGTERM)
	s.endsWith(0)
}

func TestAgentStartedByASupervisedOneIsNotMistakenForIt(t *testing.T) {
	t.Parallel()
	r := prepareRig(t, 100*time.Millisecond, nil)
	r.env.HealthEvery = 400 * time.Millisecond
	// The test's parent is an ancestor of the agent, but has not started it.
	r.command = func(binary string) *exec.Cmd {
		return exec.Command("env", fmt.Sprintf("%s=%d", supervisorVariable, os.Getppid()), binary) //nolint:gosec // the test's own
	}
	r.start(makeBinary(t, build{Version: "1.0.0"}))
	t.Cleanup(r.stop)
	r.ask(r.publish(build{Version: "1.1.0"}))
	r.ends("1.1.0")
	<-r.done
	w := r.serves("1.1.0")
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.PID))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(env, []byte(supervisorVariable)) {
		t.Error("the successor believes in a supervisor that is not its own")
	}
	if _, err := os.Stat(filepath.Join(r.env.StateDir, supervisedFile)); err == nil {
		t.Error("the agent answered to a supervisor that is not its own")
	}
}

func TestPagesWithContentOfTheirOwnAreNeverDropped(t *testing.T) {
	const tail = "Size: 4 kB\nAnonymous: %d kB\nSwap: %d kB\nVmFlags: rd mr\n"
	var smaps strings.Builder
	add := func(head string, anonymous, swap int) {
		fmt.Fprintf(&smaps, head+"\n"+tail, anonymous, swap)
	}
	add("00400000-00401000 r-xp 00000000 fe:00 17 /usr/bin/agent", 0, 0)
	add("00401000-00402000 r--p 00001000 fe:00 17 /usr/bin/an agent", 0, 0)
	add("00402000-00403000 r--p 00002000 fe:00 17 /relocated", 4, 0)
	add("00403000-00404000 r--p 00003000 fe:00 17 /relocated-swapped", 0, 4)
	add("00404000-00405000 rw-p 00004000 fe:00 17 /data", 0, 0)
	add("00405000-00406000 r--s 00005000 fe:00 17 /shared", 0, 0)
	add("00406000-00407000 r--p 00000000 00:00 0", 0, 0)
	add("00407000-00408000 r-xp 00000000 00:00 0 [vdso]", 0, 0)
	want := []mapping{{0x400000, 0x401000}, {0x401000, 0x402000}}
	if got := cleanMappings([]byte(smaps.String())); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestForwardedSignalsLeaveOutWhatConcernsOneProcessAlone(t *testing.T) {
	set := forwarded()
	for _, sig := range []unix.Signal{unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE, unix.SIGTTIN, unix.SIGTTOU, unix.SIGTSTP, unix.SIGCONT, unix.SIGPROF, unix.SIGSEGV, unix.SIGKILL, unix.SIGSTOP} {
		if slices.Contains(set, sig) {
			t.Errorf("%v is forwarded", sig)
		}
	}
}

func TestStopInTheMomentTheSupervisorExecutesAReleaseEndsAllWithCode0(t *testing.T) {
	s := startSupervised(t, 50*time.Millisecond)
	pid := s.supervisor()
	exe := fmt.Sprintf("/proc/%d/exe", pid)
	before, err := os.Readlink(exe)
	if err != nil {
		t.Fatal(err)
	}
	s.ask(s.publish(build{Version: "1.1.0"}))
	for limit := time.Now().Add(waittest.Patience); ; {
		// Neither file is there in the midst of an exec.
		if now, err := os.Readlink(exe); err != nil || now != before {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the supervisor did not execute 1.1.0")
		}
	}
	s.signal(syscall.SIGTERM)
	s.endsWith(0)
}
