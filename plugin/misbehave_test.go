//go:build linux

package plugin_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// descriptors are those open in this process, but for the runtime's own.
func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(target, "anon_inode:[event") && !strings.HasPrefix(target, "/proc/") {
			open = append(open, target)
		}
	}
	return open
}

// zombies are the children of this process that nobody has reaped.
func zombies(t *testing.T) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(fields) > 1 && fields[0] == "Z" && fields[1] == strconv.Itoa(os.Getpid()) {
			found = append(found, string(data))
		}
	}
	return found
}

// All of them run in one host, beside one that is as it should be.
func TestNoPluginHurtsItsHostOrItsNeighbours(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	opened := descriptors(t)
	dir := t.TempDir()
	install(t, dir, spec{Name: "good", Version: "1.0.0"})
	install(t, dir, spec{Name: "stopped", Version: "1.0.0"})
	for _, m := range []misbehaviour{
		writesGarbage, namesForeign, diesGreeting, closesAll, closesOutput,
		hangsEverywhere, sendsHuge, ignoresTerm, floodsLog, leavesGroup,
	} {
		install(t, dir, spec{Name: m, Version: "1.0.0", Misbehave: m})
	}
	h := startHost(t, dir, func(c *plugin.Config) {
		c.StopTimeout = time.Second
		c.CrashLimit = 2
		c.LogBytes, c.LogFiles = 64<<10, 2
		c.HealthTimeout = 3 * time.Second
		c.Required = []string{"good"}
	})
	good := h.awaitState(t, "good", plugin.Running)
	works := func(name string) {
		t.Helper()
		if got, err := h.ask(t, name, plugin.Task{Capability: "count", Payload: []byte("3")}); err != nil || got != "1.0.0 11.0.0 21.0.0 3" {
			t.Errorf("%s answers %q, %v", name, got, err)
		}
	}

	stopped := h.awaitState(t, "stopped", plugin.Running)
	if err := syscall.Kill(stopped.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for m, says := range map[misbehaviour]string{
		writesGarbage: "error parsing core protocol version",
		namesForeign:  "want the address of a unix socket in",
		diesGreeting:  "exit status 3",
		closesAll:     "Failed to read any lines",
	} {
		if s := h.awaitState(t, m, plugin.Quarantined); !strings.Contains(s.Reason, says) || len(s.Reason) > 2000 {
			t.Errorf("%s: want a short reason with %q, found %s", m, says, s.Reason)
		}
		works("good")
	}
	for _, m := range []misbehaviour{closesOutput, floodsLog, ignoresTerm} {
		h.awaitState(t, m, plugin.Running)
		works(m)
	}
	huge := h.awaitState(t, sendsHuge, plugin.Running)
	if _, err := h.ask(t, sendsHuge, plugin.Task{Capability: "count"}); err == nil || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("a message of %d bytes: found %v", hugeBytes, err)
	}
	if s := h.status(sendsHuge); s.PID != huge.PID {
		t.Errorf("the plugin did not survive it: %+v", s)
	}
	h.awaitState(t, leavesGroup, plugin.Running)
	stray, err := h.ask(t, leavesGroup, plugin.Task{Capability: "offspring"})
	if err != nil {
		t.Fatal(err)
	}
	if processGone(atoi(t, stray)) {
		t.Fatal("the descendant does not run")
	}
	h.await(t, hangsEverywhere, "killed for its silence", func(s plugin.Status) bool {
		return strings.Contains(s.LastError+s.Reason, "health check") && s.Exceptions > 1
	})
	h.awaitAnother(t, "stopped", stopped)
	works("good")
	if err := h.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	if s := h.status("good"); s.PID != good.PID || s.Exceptions != 0 {
		t.Errorf("the good one suffered: %+v", s)
	}
	if files := h.LogFiles(floodsLog); len(files) != 2 || size(t, files) > 2*64<<10 {
		t.Errorf("the flood's log files %q have %d bytes", files, size(t, files))
	}

	var pids []int
	for _, s := range h.List() {
		if s.PID != 0 {
			pids = append(pids, s.PID)
		}
	}
	h.end()
	for _, pid := range append(pids, atoi(t, stray), stopped.PID) {
		if !processGone(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
	if found := zombies(t); len(found) != 0 {
		t.Errorf("zombies: %q", found)
	}
	if left := descriptors(t); len(left) > len(opened) {
		t.Errorf("descriptors before: %q\nafter: %q", opened, left)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.Sys) - int64(before.Sys); grown > hugeBytes/2 { //nolint:gosec // sizes
		t.Errorf("the host took %d bytes more from the system", grown)
	}
}

// A leak ends its plugin, and the reason tells of the memory.
func TestLeakingPluginDiesOfItsLimit(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector a process has mapped more memory than any limit allows; run it without -race")
	}
	dir := t.TempDir()
	s := spec{Name: "probe", Version: "1.0.0", Misbehave: leaksMemory}
	m := manifest(s)
	m.Limits = plugin.Limits{MemoryBytes: 192 << 20}
	if _, err := plugin.Install(dir, build(t, s), m); err != nil {
		t.Fatal(err)
	}
	h := startHost(t, dir, nil)
	first := h.awaitState(t, "probe", plugin.Running)
	h.awaitAnother(t, "probe", first)
	if s := h.status("probe"); s.Restarts == 0 || !strings.Contains(s.LastError, "memory") {
		t.Errorf("found %+v", s)
	}
}

// The log of a plugin goes on under the next host where it was.
func TestNoLineOfALogIsLostWhenHostsChange(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, spec{Name: "probe", Version: "1.0.0", Misbehave: numbersLines})
	short := func(c *plugin.Config) { c.LogBytes, c.LogFiles = 16<<10, 100 }
	h := startHost(t, dir, short)
	first := h.awaitState(t, "probe", plugin.Running)
	for range 3 {
		have := size(t, h.LogFiles("probe"))
		waittest.Until(t, "some lines more are kept", func() bool { return size(t, h.LogFiles("probe")) > have+2000 })
		next, ended := h.handOver(t, short)
		next.same(t, first)
		<-ended
		h = next
	}
	h.end()
	next := map[string]int{}
	for _, path := range slices.Backward(h.LogFiles("probe")) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n"), "\n") {
			stream, number, _ := strings.Cut(line, " ")
			next[stream]++
			if number != strconv.Itoa(next[stream]) {
				t.Fatalf("%s: line %d of %s is %q", path, next[stream], stream, line)
			}
		}
	}
	if len(next) != 2 || next["out"] < 300 {
		t.Errorf("lines of each stream: %v", next)
	}
}

func size(t *testing.T, files []string) int64 {
	t.Helper()
	var sum int64
	for _, f := range files {
		fi, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		sum += fi.Size()
	}
	return sum
}

// The flood waits for its host, not the host for the flood.
func TestFloodOfOutputCostsItsHostLittle(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, spec{Name: "probe", Version: "1.0.0", Misbehave: floodsLog})
	h := startHost(t, dir, func(c *plugin.Config) { c.LogBytes, c.LogFiles = 16<<10, 2 })
	h.awaitState(t, "probe", plugin.Running)
	waittest.Until(t, "the log is rotated", func() bool { return len(h.LogFiles("probe")) == 2 })
	// The burst is over once a rotation takes its time: 16 KiB at the pace.
	newest := func() int64 {
		fi, err := os.Stat(h.LogFiles("probe")[0])
		if err != nil {
			return 0
		}
		return fi.ModTime().UnixNano()
	}
	used, begin := cpuTime(t), time.Now()
	changes, last := 0, newest()
	waittest.Until(t, "two seconds of the flood", func() bool {
		if now := newest(); now != last {
			changes, last = changes+1, now
		}
		return time.Since(begin) > 2*time.Second
	})
	spent := cpuTime(t) - used
	if changes == 0 {
		t.Error("nothing was written in that time")
	}
	if spent > time.Since(begin)/2 {
		t.Errorf("the host used %s in %s", spent, time.Since(begin))
	}
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
