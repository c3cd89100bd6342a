package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/perennial-go/perennial/internal/waittest"
)

// receiver takes spans as a collector does.
type receiver struct {
	collector.UnimplementedTraceServiceServer

	url string

	mu    sync.Mutex
	spans []received
}

// received is a span and the pid of the process that it comes from.
type received struct {
	*otlp.Span

	pid        int64
	attributes map[string]string
}

func (s received) trace() string  { return hex.EncodeToString(s.GetTraceId()) }
func (s received) id() string     { return hex.EncodeToString(s.GetSpanId()) }
func (s received) parent() string { return hex.EncodeToString(s.GetParentSpanId()) }

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{url: "http://" + l.Addr().String()}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

// Export implements collector.TraceServiceServer.
func (r *receiver) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, from := range in.GetResourceSpans() {
		var pid int64
		for _, a := range from.GetResource().GetAttributes() {
			if a.GetKey() == "process.pid" {
				pid = a.GetValue().GetIntValue()
			}
		}
		for _, scope := range from.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				r.spans = append(r.spans, received{s, pid, texts(s.GetAttributes())})
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func texts(attributes []*common.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range attributes {
		all[a.GetKey()] = a.GetValue().GetStringValue()
	}
	return all
}

// all returns the spans of the trace that the newest command called root began.
func (r *receiver) all(root string) (spans []received) {
	r.mu.Lock()
	defer r.mu.Unlock()
	trace := ""
	for _, s := range r.spans {
		if s.GetName() == root && len(s.GetParentSpanId()) == 0 {
			trace = s.trace()
		}
	}
	for _, s := range r.spans {
		if s.trace() == trace {
			spans = append(spans, s)
		}
	}
	return spans
}

// shape is the trace as "process: name < parent", processes being numbered as
// their spans began; ! is a span with an error status.
func shape(spans []received) (lines []string) {
	slices.SortFunc(spans, func(a, b received) int { return int(a.GetStartTimeUnixNano()) - int(b.GetStartTimeUnixNano()) }) //nolint:gosec // both are of now
	names, processes := map[string]string{}, map[int64]int{}
	for _, s := range spans {
		names[s.id()] = s.GetName()
		if processes[s.pid] == 0 {
			processes[s.pid] = len(processes) + 1
		}
	}
	for _, s := range spans {
		mark := ""
		if s.GetStatus().GetCode() == otlp.Status_STATUS_CODE_ERROR {
			mark = "!"
		}
		lines = append(lines, fmt.Sprintf("%d: %s%s < %s", processes[s.pid], s.GetName(), mark, names[s.parent()]))
	}
	slices.Sort(lines)
	return lines
}

func (r *receiver) gets(t *testing.T, root string, want ...string) []received {
	t.Helper()
	slices.Sort(want)
	waittest.Nil(t, "the trace of "+root+" is complete", func() error {
		if got := shape(r.all(root)); !slices.Equal(got, want) {
			return fmt.Errorf("it has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return nil
	})
	return r.all(root)
}

func TestCollectorGetsOneTraceOfATaskAndOfAnUpgradeFromEveryProcess(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	r := newReceiver(t)
	c := newCrew(t)
	c.release("1.0.0", "1.1.0", "1.2.0")
	c.start(append(c.args, "--probation", "3s", "--otlp-endpoint", r.url)...)
	out := c.task("submit", "--plugin", "jobs", "--wait", "--otlp-endpoint", r.url, payload(t, map[string]any{"trace": true})).ok(t).stdout
	task := r.gets(t, "agentd task submit",
		"1: agentd task submit < ", "1: perennial.task.submit < agentd task submit",
		"2: perennial.task.assign < perennial.task.submit", "2: perennial.task.run < perennial.task.assign",
		"2: perennial.plugin.execute < perennial.task.run",
	)
	for _, s := range task {
		if s.GetName() == "perennial.plugin.execute" && s.id() != strings.TrimSpace(out) {
			t.Errorf("the plugin was called below span %q, want %q", strings.TrimSpace(out), s.id())
		}
		if s.GetName() == "perennial.task.run" && (s.attributes["agent"] != "a1" || s.attributes["version"] != "1.0.0" || s.attributes["ended"] != "succeeded") {
			t.Errorf("the run's attributes are %v", s.attributes)
		}
	}
	steps := []string{"check", "download", "verify", "wait", "start", "probation", "commit"}
	attempt := func(more ...string) (want []string) {
		want = append(want, "1: agentd upgrade < ", "2: perennial.upgrade < agentd upgrade", "3: perennial.upgrade.successor < perennial.upgrade",
			"3: perennial.upgrade.takeover < perennial.upgrade.successor", "2: perennial.upgrade.drain < perennial.upgrade")
		for _, step := range steps {
			want = append(want, "2: perennial.upgrade."+step+" < perennial.upgrade")
		}
		return append(want, more...)
	}
	c.upgrade("1.1.0", "--otlp-endpoint", r.url).ok(t)
	r.gets(t, "agentd upgrade", attempt()...)

	// 1.2.0 turns unhealthy.
	if c.upgrade("1.2.0", "--otlp-endpoint", r.url).code == 0 {
		t.Fatal("a release that turns unhealthy was committed")
	}
	want := slices.DeleteFunc(attempt("2: perennial.upgrade.rollback < perennial.upgrade", "3: perennial.upgrade.drain < perennial.upgrade.successor"), func(line string) bool {
		return strings.Contains(line, ".takeover") || strings.Contains(line, ".commit") || strings.HasPrefix(line, "2: perennial.upgrade.drain")
	})
	for i, line := range want {
		for _, failed := range []string{"agentd upgrade <", "perennial.upgrade <", ".successor <", ".probation <"} {
			if name, below, _ := strings.Cut(line, " < "); strings.HasSuffix(name+" <", failed) {
				want[i] = name + "! < " + below
			}
		}
	}
	r.gets(t, "agentd upgrade", want...)
}

// silent is a collector that takes connections and never says a word.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	return "http://" + l.Addr().String()
}

func TestCollectorThatHangsHoldsUpNeitherCommandsNorUpgradesNorTheEnd(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", silent(t)) // for agents and commands
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	p := s.start()
	began := time.Now()
	s.upgrade("1.1.0").ok(t)
	waittest.Until(t, "the successor serves", func() bool { return s.mustInfo().Version == "1.1.0" })
	if err := waittest.Next(t, "the incumbent ends", p.done); err != nil {
		t.Error(err)
	}
	p.stop()
	// Without a bound at the end each process would take the ten seconds after
	// which an export is given up.
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("an upgrade and the end of both processes took %v", took)
	}
	if !strings.Contains(p.logged(), "the last spans were not exported") {
		t.Error("nothing was left to export at the end: that was no test")
	}
}

func TestTracesWithoutAUsableEndpointAreRefusedOrLeftOut(t *testing.T) {
	for _, wrong := range []string{"127.0.0.1:4317", "ftp://127.0.0.1", "http://"} {
		agentd(t, "task", "submit", "--etcd", "http://127.0.0.1:1", "--plugin", "jobs", "--otlp-endpoint", wrong, "{}").fails(t, 2, "--otlp-endpoint", wrong)
	}
}
