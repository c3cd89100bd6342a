//go:build unix

package plugintest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a test that is expected to fail.
type recorder struct {
	testing.TB

	mu      sync.Mutex
	failed  bool
	skipped bool
	said    []string
}

func (r *recorder) Helper() {}

func (r *recorder) say(failed bool, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = r.failed || failed
	r.said = append(r.said, text)
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) Log(args ...any)                 { r.say(false, fmt.Sprint(args...)) }
func (r *recorder) Logf(format string, args ...any) { r.say(false, fmt.Sprintf(format, args...)) }
func (r *recorder) Error(args ...any)               { r.say(true, fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) {
	r.say(true, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(format string, args ...any) {
	r.Logf(format, args...)
	r.skipped = true
	runtime.Goexit()
}

// putOn runs one check on tb's behalf.
func putOn(tb testing.TB, s *suite, name string) *recorder {
	r := &recorder{TB: tb}
	for _, c := range slices.Concat(checks(), patientChecks()) {
		if c.name != name {
			continue
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.run(r, s)
		}()
		<-done
		return r
	}
	tb.Fatalf("there is no check %s", name)
	return nil
}

// How long the checks wait: soon where a fault is that something does not come.
const (
	patience = time.Minute
	soon     = 3 * time.Second
)

// spoilt is a plugin with a fault, and what the check says of it.
type spoilt struct {
	check, fault, says string
	late               bool // the fault is that something does not come
}

// TestFaultIsFound holds each check against plugins that fail it: a check
// that passes whatever the plugin does would not be missed.
func TestFaultIsFound(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, c := range faults() {
		found[c.check] = true
		t.Run(c.check+" "+c.fault, func(t *testing.T) {
			t.Parallel()
			path, m := executable(t, build{Name: "faulty", Fault: c.fault})
			s := known(m).suite(t, path)
			s.limits = limits{start: patience, answer: patience, end: patience, orphan: 2 * time.Second}
			if c.late {
				s.limits = limits{start: soon, answer: soon, end: soon, orphan: 2 * time.Second}
			}
			r := putOn(t, s, c.check)
			if all := strings.Join(r.said, "\n"); !r.failed || !strings.Contains(all, c.says) {
				t.Errorf("want that it fails with %q, found failed %t with %q", c.says, r.failed, all)
			}
		})
	}
	for _, c := range slices.Concat(checks(), patientChecks()) {
		if !found[c.name] {
			t.Errorf("no plugin is known that fails the check %s", c.name)
		}
	}
}

func faults() []spoilt {
	return []spoilt{
		{"Handshake", "chatters first", "nothing may be written to standard output before it", false},
		{"Handshake", "speaks of net/rpc", `kind: want grpc, found "netrpc"`, false},
		{"Handshake", "speaks version 2", "the protocol version: want 1", false},
		{"Handshake", "ends at once", "ended before the handshake: exit status 1", false},
		{"Handshake", "says nothing", "no handshake within", true},
		{"Cookie", "wants no cookie", "it must not serve", true},
		{"Cookie", "ends well by hand", "want an exit status that says failure", false},
		{"Socket", "listens elsewhere", "want it in the directory of PLUGIN_UNIX_SOCKET_DIR", false},
		{"Socket", "has a child listen", "takes that for an impostor", false},
		{"Environment", "wants HOME", "ended before the handshake", false},
		{"Info", "has another version", `the manifest says faulty 1.2.3, found "faulty" "9.9.9"`, false},
		{"Info", "lacks a capability", `promises the capability "count"`, false},
		{"ForeignServices", "dies of what it does not know", "it broke the connection", false},
		{"Attach", "says it has started", "want started false, found true", false},
		{"Attach", "forgets that it has started", "want started true, found false", false},
		{"Attach", "tells the host late", "no message within", true},
		{"Attach", "lets go of the host", "it is the host's to end", false},
		{"Start", "cannot start", "no licence", false},
		{"Start", "is not well after Start", "the source is unreadable", false},
		{"Start", "starts with any settings", "want an error, found none", false},
		{"Start", "dies of bad settings", "want the plugin's own error", false},
		{"Start", "has started in spite of an error", "want started false, found true", false},
		{"Health", "is busy with its tasks", "gave no answer", true},
		{"Health", "does one task at a time", "the first result of task 2 of 4 at once", true},
		{"Capability", "takes any task", "want the code Unimplemented, found OK", false},
		{"Capability", "has a code of its own", "want the code Unimplemented, found InvalidArgument", false},
		{"Execute", "fails", "no such table", false},
		{"Execute", "hopes", "want the code InvalidArgument, found Unknown", false},
		{"Resume", "begins anew", `want "2" as the cursor of result 1, found "1"`, false},
		{"Resume", "has no cursors", "result 1 of a task that resumes has no cursor", false},
		{"LargeMessages", "takes 4 MiB", "found ResourceExhausted", false},
		{"LargeMessages", "yields little", "a result of 15 MiB (the largest so far has 1048", false},
		{"BackPressure", "hoards results", "more memory", false},
		{"Cancel", "goes on after a cancellation", "still at work", false},
		{"Deadline", "knows no deadline", "has not ended", true},
		{"Stop", "does not stop", "Stop without tasks", true},
		{"Stop", "works on after Stop", "has not ended within", true},
		{"Stop", "goes on after Stop", "has not ended within", true},
		{"Stop", "is done when stopped", "want the code Aborted, found OK", false},
		{"Stop", "breaks off when stopped", "want the code Aborted, found Unavailable", false},
		{"Terminate", "shrugs off SIGTERM", "SIGTERM without a Stop before ends it", true},
		{"Terminate", "dies of SIGTERM badly", "want exit status 0 or the signal, found exit status 3", false},
		{"SecondHost", "takes one host", "there is a host", false},
		{"SecondHost", "takes one connection", "Info:", false},
		{"SecondHost", "leaves with the first host", "although the second host was attached", false},
		{"SecondHost", "counts one host only", "although the second host was attached", false},
		{"Reattach", "takes one connection", "Info:", false},
		{"Reattach", "forgets that it has started", "want started true, found false", false},
		{"Reattach", "counts on", "a host ha", false},
		{"Orphan", "never is an orphan", "has not ended within", true},
		{"Orphan", "is killed when orphaned", "want that it exits by itself, found that it was ended by killed", false},
		{"Output", "logs before it answers", "while nobody reads what it writes: Health gave no answer", true},
		{"Output", "dies of its log", "Health gave no answer", false},
		{"Generations", "locks a file", "ended before the handshake", false},
	}
}
