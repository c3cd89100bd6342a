package agent_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/agent/admin"
	"github.com/perennial-go/perennial/health"
)

// A program adds what only it knows: a figure with an alert, a check, what to
// do about the alert, the pulse of its main loop, a route for its operators,
// and gRPC health. docs/observability.md quotes this.
func ExampleConfig_health() {
	queue := make(chan string, 100)
	ping := func(context.Context) error { return nil } // asks the database
	work := func(string) {}
	show := func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, len(queue)) }

	provider := noop.NewTracerProvider()

	// quoted: config
	cfg := agent.Config{
		Admin: admin.Config{Address: "127.0.0.1:7071"},
		Health: health.Config{
			Indicators: []health.Indicator{{
				Name: "queue_length", Unit: "jobs",
				Measure: func(context.Context) (health.Sample, error) { return health.Sample{Value: float64(len(queue))}, nil },
				Rules:   []health.Rule{{Above: 80, For: time.Minute, KeepFiring: 5 * time.Minute}},
			}},
			Checks: []health.Check{
				{Name: "database", Timeout: time.Second, Func: ping},
				{Name: "tables", Func: ping, After: []string{"database"}},
			},
			OnAlert: func(e health.AlertEvent) { fmt.Println(e.Name, e.State, e.Value) },
		},
		Responses:      []agent.Response{{Alert: "queue_length", Action: agent.RespondDrain}},
		TracerProvider: provider, // of your SDK, or otel.GetTracerProvider()
	}
	// end

	cfg.ID, cfg.Version, cfg.StateDir = "a1", "1.0.0", os.TempDir()+"/a1"
	cfg.Etcd.Endpoints = []string{"http://127.0.0.1:2379"}
	// quoted: start
	cfg.Start = func(_ context.Context, a *agent.Agent) error {
		pulse, err := a.Health().Pulse("main-loop", 30*time.Second)
		if err != nil {
			return err
		}
		a.Go("main loop", func(ctx context.Context) error {
			for ctx.Err() == nil {
				pulse.Beat() // a turn that takes longer than 30 s is a deadlock
				select {
				case job := <-queue:
					work(job)
				case <-time.After(10 * time.Second):
				case <-ctx.Done():
				}
			}
			return nil
		})
		if err := a.AdminHandle("GET /v1/queue", admin.Read, http.HandlerFunc(show)); err != nil {
			return err
		}
		ln, err := a.Listen("tcp", "127.0.0.1:7072")
		if err != nil {
			return err
		}
		srv := grpc.NewServer(a.GRPCOptions()...)
		healthpb.RegisterHealthServer(srv, a.Health().GRPC("jobs.v1.Jobs"))
		a.ServeGRPC(ln, srv)
		return nil
	}
	// end

	a, err := agent.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, alert := range a.Health().Alerts() {
		if alert.Name == "queue_length" || alert.Name == "memory" {
			fmt.Println(alert.Name, alert.State, "above", alert.Threshold, alert.Unit)
		}
	}
	// Output:
	// memory unknown above 85 percent
	// queue_length unknown above 80 jobs
}

// TestTheDocumentQuotesTheExampleAsItCompiles: authors copy it from there.
func TestTheDocumentQuotesTheExampleAsItCompiles(t *testing.T) {
	code, err := os.ReadFile("example_health_test.go")
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := 0
	for _, part := range strings.Split(string(code), "\n\t// quoted: ")[1:] {
		_, part, _ = strings.Cut(part, "\n")
		part, _, _ = strings.Cut(part, "\n\t// end\n")
		part = strings.ReplaceAll("\n"+part, "\n\t", "\n")
		if !strings.Contains(string(document), "```go"+part+"\n```\n") {
			t.Errorf("docs/observability.md has no block with this code of agent/example_health_test.go: copy it there\n%s", part)
		}
		quoted++
	}
	if quoted != 2 {
		t.Errorf("%d parts are marked to be quoted, want 2", quoted)
	}
}
