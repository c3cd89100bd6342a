package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/porttest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// socketRig is a rig whose releases open the sockets given by version.
func socketRig(tb testing.TB, sockets func(dir string) map[string][]testSocket) *rig {
	tb.Helper()
	r := prepareRig(tb, 300*time.Millisecond, nil)
	r.env.Sockets = sockets(filepath.Dir(r.env.Address))
	r.first(build{Version: "1.0.0"})
	return r
}

// attempt upgrades to b and returns how that ended.
func (r *rig) attempt(b build) Status {
	r.Helper()
	r.ask(r.publish(b))
	return r.ends(b.Version)
}

func (r *rig) commits(b build) {
	r.Helper()
	if s := r.attempt(b); s.State != Committed {
		r.Fatalf("%s: %s (%s)", b.Version, s.State, s.Reason)
	}
	r.serves(b.Version)
}

func (r *rig) rollsBack(b build) Status {
	r.Helper()
	s := r.attempt(b)
	if s.State != RolledBack {
		r.Fatalf("%s: %s (%s), want a roll back", b.Version, s.State, s.Reason)
	}
	return s
}

// inode tells one socket file from another at its path.
func inode(tb testing.TB, path string) uint64 {
	tb.Helper()
	info, err := os.Stat(path)
	if err != nil {
		tb.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

func vanished(tb testing.TB, path string) {
	tb.Helper()
	waittest.Nil(tb, path+" is removed", func() error {
		_, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(errors.New("it is there"), err)
	})
}

func TestEverySocketSurvivesSwapAndRollback(t *testing.T) {
	t.Parallel()
	var stream, gram string
	r := socketRig(t, func(dir string) map[string][]testSocket {
		stream, gram = filepath.Join(dir, "stream"), filepath.Join(dir, "gram")
		first := []testSocket{
			{"", "tcp", "127.0.0.1:0"},
			{"", "udp", "127.0.0.1:0"},
			{"", "udp", "127.0.0.1:0"},
			{"metrics", "tcp", "127.0.0.1:0"},
			{"", "unix", stream},
			{"", "unixgram", gram},
			{"", "unix", "@" + dir},
		}
		// The named one moves to the front; without its name it would be taken
		// for the first one on port 0, and every later one be shifted.
		second := append([]testSocket{first[3]}, append(append([]testSocket{}, first[:3]...), first[4:]...)...)
		return map[string][]testSocket{"1.0.0": first, "1.1.0": second, "1.2.0": second}
	})
	before := []uint64{inode(t, stream), inode(t, gram)}
	r.answered("1.0.0", "1.0.0")
	r.commits(build{Version: "1.1.0"})
	r.answered("1.1.0", "1.0.0")
	want, got := r.opened("1.0.0").Addresses, r.opened("1.1.0").Addresses
	want = append([]string{want[3]}, append(want[:3:3], want[4:]...)...)
	if !slices.Equal(got, want) {
		t.Errorf("after the swap the sockets have the addresses %v, want %v", got, want)
	}
	r.rollsBack(build{Version: "1.2.0", Fault: "unhealthy"})
	r.answered("1.1.0", "1.0.0")
	if now := []uint64{inode(t, stream), inode(t, gram)}; now[0] != before[0] || now[1] != before[1] {
		t.Errorf("the socket files changed from %v to %v", before, now)
	}
	if err := syscall.Kill(r.holder(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	vanished(t, stream)
	vanished(t, gram)
}

func TestSwapAndRollbackLoseNoDatagram(t *testing.T) {
	t.Parallel()
	r := socketRig(t, func(string) map[string][]testSocket {
		one := []testSocket{{"", "udp", "127.0.0.1:0"}}
		return map[string][]testSocket{"1.0.0": one, "1.1.0": one, "1.2.0": one, "1.3.0": one}
	})
	addr := r.opened("1.0.0").Addresses[0]
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	var mu sync.Mutex
	var failures []error
	answers := map[string]int{}
	for i := range 8 {
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				version, err := query("udp", "", addr, fmt.Sprintf("%d-%d", i, n))
				mu.Lock()
				answers[version]++
				if err != nil {
					failures = append(failures, err)
				}
				mu.Unlock()
			}
		})
	}
	r.rollsBack(build{Version: "1.1.0", Fault: "unhealthy"})
	r.answered("1.0.0", "1.0.0")
	r.commits(build{Version: "1.2.0"})
	r.commits(build{Version: "1.3.0"})
	r.answered("1.3.0", "1.0.0")
	cancel()
	clients.Wait()
	if len(failures) > 0 {
		t.Errorf("%d datagrams had no answer, the first: %v", len(failures), failures[0])
	}
	t.Logf("answers by version: %v", answers)
	for _, version := range []string{"1.0.0", "1.2.0", "1.3.0"} {
		if answers[version] == 0 {
			t.Errorf("%s answered nothing", version)
		}
	}
}

func TestIncumbentReadsNoDatagramWhileASuccessorIsOnProbation(t *testing.T) {
	t.Parallel()
	r := prepareRig(t, time.Hour, nil)
	one := []testSocket{{"", "udp", "127.0.0.1:0"}}
	r.env.Sockets = map[string][]testSocket{"1.0.0": one, "1.1.0": one}
	r.first(build{Version: "1.0.0"})
	addr := r.opened("1.0.0").Addresses[0]
	r.ask(r.publish(build{Version: "1.1.0"}))
	waittest.Nil(t, "the successor is on probation", func() error {
		last, err := readJournal(filepath.Join(r.env.StateDir, journalFile))
		if err == nil && last.State != Probation {
			err = errors.New(string(last.State))
		}
		return err
	})
	for n := range 200 {
		if v, err := query("udp", "", addr, fmt.Sprint(n)); err != nil || v != "1.1.0" {
			t.Fatalf("datagram %d was answered by %q, %v", n, v, err)
		}
	}
}

func TestChangedAddressMovesAtCommitAndNotBefore(t *testing.T) {
	t.Parallel()
	var before, after string
	r := socketRig(t, func(dir string) map[string][]testSocket {
		before, after = filepath.Join(dir, "old"), filepath.Join(dir, "new")
		first := []testSocket{{"", "tcp", porttest.Address(t)}, {"", "unix", before}}
		second := []testSocket{{"", "tcp", porttest.Address(t)}, {"", "unix", after}}
		return map[string][]testSocket{"1.0.0": first, "1.1.0": second, "1.2.0": second}
	})
	r.rollsBack(build{Version: "1.1.0", Fault: "unhealthy"})
	r.answered("1.0.0", "1.0.0")
	vanished(t, after)
	if v, err := r.says("tcp", r.env.Sockets["1.1.0"][0].Addr); err == nil {
		t.Errorf("%q answers on the address of a release that was rolled back", v)
	}
	r.commits(build{Version: "1.2.0"})
	r.answered("1.2.0", "1.2.0")
	vanished(t, before)
	waittest.Until(t, "the old address refuses", func() bool {
		_, err := r.says("tcp", r.env.Sockets["1.0.0"][0].Addr)
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

func TestAddressThatASuccessorCannotBindRollsBackAndIsNamed(t *testing.T) {
	t.Parallel()
	foreign, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = foreign.Close() }()
	r := socketRig(t, func(dir string) map[string][]testSocket {
		own := testSocket{"", "unix", filepath.Join(dir, "own")}
		return map[string][]testSocket{"1.0.0": {own}, "1.1.0": {own, {"", "tcp", foreign.Addr().String()}}}
	})
	s := r.rollsBack(build{Version: "1.1.0"})
	if !strings.Contains(s.Reason, foreign.Addr().String()+": bind: address already in use") || s.Class != BadEnvironment {
		t.Errorf("%s: %q, want the address and why, as a failure of the environment", s.Class, s.Reason)
	}
	r.answered("1.0.0", "1.0.0")
}

func TestWhatADeadSuccessorSaidLastIsReadBeforeItIsJudged(t *testing.T) {
	near, far, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	tr := &trial{quit: make(chan struct{}), family: &family{pid: 1}}
	if tr.conn, err = fileConn(near); err != nil {
		t.Fatal(err)
	}
	if tr.far, err = fileConn(far); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tr.conn.Close(); _ = tr.far.Close() }()
	for _, f := range []frame{{Kind: kindHello}, {Kind: kindTrouble, Reason: "no such address"}} {
		if err := sendFrame(tr.far, f); err != nil {
			t.Fatal(err)
		}
	}
	tr.in = readFrames(tr.conn, tr.quit)
	if f := tr.died(errors.New("child pid=1 exited: exit status 1")); !strings.Contains(f.reason, "exit status 1; it said: no such address") {
		t.Errorf("the reason is %q", f.reason)
	}
}

func TestSuccessorMayHaveOneSocketMoreOrFewer(t *testing.T) {
	t.Parallel()
	var kept, extra string
	r := socketRig(t, func(dir string) map[string][]testSocket {
		kept, extra = filepath.Join(dir, "kept"), filepath.Join(dir, "extra")
		few := []testSocket{{"", "unix", kept}, {"", "udp", "127.0.0.1:0"}}
		many := append(append([]testSocket{}, few...), testSocket{"", "unix", extra}, testSocket{"", "udp", "127.0.0.1:0"})
		return map[string][]testSocket{"1.0.0": few, "1.1.0": many, "1.2.0": few, "1.3.0": few}
	})
	before := inode(t, kept)
	r.commits(build{Version: "1.1.0"})
	r.answered("1.1.0", "1.1.0")
	more := inode(t, extra)
	r.rollsBack(build{Version: "1.2.0", Fault: "unhealthy"})
	r.answered("1.1.0", "1.1.0")
	if now := inode(t, extra); now != more {
		t.Error("a roll back replaced the socket that its release did not want")
	}
	r.commits(build{Version: "1.3.0"})
	r.answered("1.3.0", "1.0.0")
	vanished(t, extra)
	if now := inode(t, kept); now != before {
		t.Error("the socket that every release wants was replaced")
	}
}

func TestDeathOnProbationLeavesSocketFilesAlone(t *testing.T) {
	t.Parallel()
	var kept, extra string
	r := socketRig(t, func(dir string) map[string][]testSocket {
		kept, extra = filepath.Join(dir, "kept"), filepath.Join(dir, "extra")
		few := []testSocket{{"", "unix", kept}}
		many := append(append([]testSocket{}, few...), testSocket{"", "unix", extra})
		return map[string][]testSocket{"1.0.0": few, "1.1.0": many, "1.2.0": few, "1.3.0": many, "1.4.0": many}
	})
	before := inode(t, kept)
	for _, b := range []build{{Version: "1.1.0", Fault: "dies"}, {Version: "1.2.0", Fault: "dies"}, {Version: "1.3.0", Fault: "stopped"}} {
		r.rollsBack(b)
		r.answered("1.0.0", "1.0.0")
		if now := inode(t, kept); now != before {
			t.Fatalf("%s replaced the incumbent's socket file", b.Fault)
		}
	}
	// The file that a dead successor left must not be in the way.
	inode(t, extra)
	r.commits(build{Version: "1.4.0"})
	r.answered("1.4.0", "1.4.0")
}

func TestSocketFileLeftByAKillDoesNotKeepTheAgentFromStarting(t *testing.T) {
	t.Parallel()
	var stream, gram string
	r := socketRig(t, func(dir string) map[string][]testSocket {
		stream, gram = filepath.Join(dir, "stream"), filepath.Join(dir, "gram")
		return map[string][]testSocket{"1.0.0": {{"", "unix", stream}, {"", "unixgram", gram}}}
	})
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-r.done
	inode(t, stream)
	inode(t, gram)
	r.start(makeBinary(t, build{Version: "1.0.0"}))
	r.answered("1.0.0", "1.0.0")
}

// TestKeptSocketIsThereAsLongAsReleasesAskForItAndNoLonger: its file has to
// outlive the Run of each, and not the last that wants it. Without the file,
// which somebody may delete, a release starts and makes it anew.
func TestKeptSocketIsThereAsLongAsReleasesAskForItAndNoLonger(t *testing.T) {
	t.Parallel()
	var path string
	r := socketRig(t, func(dir string) map[string][]testSocket {
		path = filepath.Join(dir, "kept")
		kept := []testSocket{{keptSocket, "unix", path}}
		return map[string][]testSocket{"1.0.0": kept, "1.1.0": kept, "1.2.0": kept, "1.3.0": {}, "1.4.0": {}}
	})
	before := inode(t, path)
	r.commits(build{Version: "1.1.0"})
	r.answered("1.1.0", "1.0.0")
	if now := inode(t, path); now != before {
		t.Error("a swap replaced the socket")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.commits(build{Version: "1.2.0"})
	r.answered("1.2.0", "1.0.0")
	r.rollsBack(build{Version: "1.3.0", Fault: "unhealthy"})
	r.answered("1.2.0", "1.0.0")
	r.commits(build{Version: "1.4.0"})
	vanished(t, path)
}
