package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/tracetest"
	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/internal/waittest"
)

// noted is a span of a test agent, as it ended or as it was left open.
type noted struct {
	PID                       int
	Name, Trace, Span, Parent string
	Links                     []string
	Attributes                map[string]string
	Failed, Open              bool
	Error                     string
}

// recordSpans notes each span of this process as it ends: a kill loses those
// alone that are open, as with any exporter.
func recordSpans(env agentEnv) *tracetest.Recorder {
	return &tracetest.Recorder{OnEnd: func(r tracetest.Record) {
		n := noted{
			PID: os.Getpid(), Name: r.Name, Trace: r.Context.TraceID().String(), Span: r.Context.SpanID().String(), Parent: r.Parent.SpanID().String(),
			Attributes: r.Attributes, Failed: r.Status == codes.Error, Error: r.Error,
		}
		for _, l := range r.Links {
			n.Links = append(n.Links, l.TraceID().String())
		}
		n.write(env.Spans)
	}}
}

// noteHook notes a call of a hook as a span of its own would be.
func noteHook(ctx context.Context, env agentEnv, name string) {
	below := trace.SpanContextFromContext(ctx)
	noted{PID: os.Getpid(), Name: "perennial.hook." + name, Trace: below.TraceID().String(), Span: "hook." + name, Parent: below.SpanID().String()}.write(env.Spans)
}

// noteOpenSpans is called last: on no way to an orderly end is a span left open.
func noteOpenSpans(env agentEnv, seen *tracetest.Recorder) {
	for _, name := range seen.Open() {
		noted{PID: os.Getpid(), Name: name, Open: true}.write(env.Spans)
	}
}

// write appends one line, which is one write: several processes do.
func (n noted) write(path string) {
	line, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return // a test of full disks
	}
	_, _ = f.Write(append(line, '\n'))
	_ = f.Close()
}

// spans returns those that all processes have noted.
func (r *rig) spans() (all []noted) {
	r.Helper()
	data, err := os.ReadFile(r.env.Spans)
	if err != nil {
		return nil // none was
	}
	for line := range bytes.Lines(data) {
		var n noted
		if err := json.Unmarshal(line, &n); err != nil {
			r.Fatalf("%s: %v", line, err)
		}
		all = append(all, n)
	}
	return all
}

const (
	askedSpan  = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	askedTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// askTraced asks for a release as somebody who traces.
func (r *rig) askTraced(b build) {
	r.Helper()
	r.request(Request{ID: b.Version, Pin: r.publish(b), Traceparent: askedSpan})
}

// shape shows the spans of the trace that was asked in, as "who: name < parent",
// who being the first process or another, and ! a span that failed.
func (r *rig) shape() []string {
	all := r.spans()
	names := map[string]string{"00f067aa0ba902b7": "asker"}
	for _, s := range all {
		names[s.Span] = strings.TrimPrefix(s.Name, "perennial.")
	}
	var lines []string
	for _, s := range all {
		if s.Trace != askedTrace {
			continue
		}
		who, mark := "new", ""
		if s.PID == r.cmd.Process.Pid {
			who = "old"
		}
		if s.Failed {
			mark = "!"
		}
		lines = append(lines, fmt.Sprintf("%s: %s%s < %s", who, names[s.Span], mark, names[s.Parent]))
	}
	slices.Sort(lines)
	return lines
}

func (r *rig) hasShape(want ...string) {
	r.Helper()
	slices.Sort(want)
	waittest.Nil(r, "the trace is complete", func() error {
		if got := r.shape(); !slices.Equal(got, want) {
			return fmt.Errorf("it has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return nil
	})
}

func TestOneTraceTellsOfAnUpgradeInBothProcesses(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.askTraced(build{Version: "1.1.0"})
	if s := r.ends("1.1.0"); s.State != Committed || !strings.Contains(s.Traceparent, askedTrace) {
		t.Errorf("%s in trace %q: %s", s.State, s.Traceparent, s.Reason)
	}
	r.hasShape(
		"old: upgrade < asker",
		"old: upgrade.check < upgrade", "old: upgrade.download < upgrade", "old: upgrade.verify < upgrade", "old: upgrade.wait < upgrade",
		"old: upgrade.start < upgrade", "old: upgrade.probation < upgrade", "old: upgrade.commit < upgrade",
		"old: hook.before-start < upgrade.start", "old: hook.before-commit < upgrade.probation",
		"new: upgrade.successor < upgrade", "new: upgrade.takeover < upgrade.successor",
	)
	for _, s := range r.spans() {
		if s.Name == SpanAttempt && (s.Attributes[tracing.Attempt] != "1.1.0" || s.Attributes[tracing.State] != string(Committed) || !strings.HasPrefix(s.Attributes[tracing.Release], "1.1.0@sha256:")) {
			t.Errorf("attributes %v", s.Attributes)
		}
		if s.Name == SpanDownload && (s.Attributes[tracing.Form] == "" || s.Attributes[tracing.Downloaded] == "") {
			t.Errorf("the download's attributes are %v", s.Attributes)
		}
	}
	// A rollback later on is a trace of its own, and leads to what it takes back.
	<-r.done
	r.request(Request{ID: "back", Action: ActionRollback})
	r.ends("back")
	waittest.Until(t, "the rollback's trace has a link to the upgrade's", func() bool {
		return slices.ContainsFunc(r.spans(), func(s noted) bool {
			return s.Name == SpanAttempt && s.Trace != askedTrace && slices.Equal(s.Links, []string{askedTrace}) && s.Attributes[tracing.Action] == string(ActionRollback)
		})
	})
}

func TestTraceTellsWhyAReleaseWasRolledBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10*time.Second, nil)
	r.askTraced(build{Version: "1.1.0", Fault: "unhealthy"})
	if s := r.ends("1.1.0"); s.State != RolledBack {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	r.hasShape(
		"old: upgrade! < asker",
		"old: upgrade.check < upgrade", "old: upgrade.download < upgrade", "old: upgrade.verify < upgrade", "old: upgrade.wait < upgrade",
		"old: upgrade.start < upgrade", "old: upgrade.probation! < upgrade", "old: upgrade.rollback < upgrade",
		"old: hook.before-start < upgrade.start", "old: hook.after-rollback < upgrade.rollback",
		"new: upgrade.successor! < upgrade",
	)
	for _, s := range r.spans() {
		if s.Name == SpanProbation && !strings.Contains(s.Error, "disk: fault: always unhealthy") {
			t.Errorf("the probation's error is %q", s.Error)
		}
	}
}

// tracedGivingUp expects that what the boot guard did shows once, in the trace of
// the upgrade that it took back.
func (r *rig) tracedGivingUp() {
	r.Helper()
	var resumed []noted
	for _, s := range r.spans() {
		if s.Name == SpanResume {
			resumed = append(resumed, s)
		}
		if s.Trace != askedTrace {
			r.Errorf("%s is in a trace of its own", s.Name)
		}
	}
	if len(resumed) != 1 {
		r.Fatalf("the boot guard's part is traced %d times: %+v", len(resumed), resumed)
	}
	s := resumed[0]
	if !s.Failed || s.Attributes[tracing.Found] != string(RollingBack) || s.Attributes[tracing.State] != string(RolledBack) || !strings.Contains(s.Error, "never became healthy") {
		r.Errorf("the boot guard's part is traced as %+v", s)
	}
}

// What is open at a kill is lost. The rest hangs on the same trace all the same.
func TestTraceGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		failpoints map[string]string
		restart    bool
		want       []string
	}{
		"of the incumbent in probation": {map[string]string{"1.0.0": "probation=kill"}, false, []string{
			"new: upgrade.successor < ", "new: upgrade.commit < upgrade.successor", "new: upgrade.takeover < upgrade.successor",
			"new: hook.before-commit < upgrade.successor",
		}},
		"of the incumbent before its start of the successor": {map[string]string{"1.0.0": "start=kill"}, true, []string{
			"old: upgrade.resume! < ", "old: hook.after-rollback < ",
		}},
		"of both, once current had moved": {map[string]string{"1.0.0": "commit-after-current=kill", "1.1.0": "take-over=kill"}, true, []string{
			"old: upgrade.resume < ",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 300*time.Millisecond, c.failpoints)
			before := r.cmd.Process.Pid
			r.askTraced(build{Version: "1.1.0"})
			if c.restart {
				<-r.done
				r.awaitFree()
				r.env.Failpoints = nil
				// With current moved, this executes it: what it found must not be
				// lost with its memory.
				r.start(r.cmd.Path)
			}
			r.ends("1.1.0")
			waittest.Nil(r, "the trace is complete", func() error {
				got := slices.DeleteFunc(r.shape(), func(line string) bool {
					return c.restart && strings.HasPrefix(line, "new: ") // of the process that was killed
				})
				got = slices.DeleteFunc(got, func(line string) bool { return !c.restart && strings.HasPrefix(line, "old: ") })
				if want := slices.Sorted(slices.Values(c.want)); !slices.Equal(got, want) {
					return fmt.Errorf("it has\n%s\nwant\n%s", strings.Join(r.shape(), "\n"), strings.Join(want, "\n"))
				}
				return nil
			})
			for _, s := range r.spans() {
				if s.Trace != askedTrace {
					t.Errorf("%s is in a trace of its own", s.Name)
				}
			}
			if r.cmd.Process.Pid == before && c.restart {
				t.Error("nothing was started again")
			}
			if !c.restart {
				_ = syscall.Kill(r.holder(), syscall.SIGTERM)
				r.awaitFree() // an orderly end, at which no span is open
			}
		})
	}
}
