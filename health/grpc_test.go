package health_test

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // the client's health checking
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/peertest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// serveGRPC serves m's health until the test ends and returns the address.
func serveGRPC(t *testing.T, m *health.Monitor, services ...string) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	healthpb.RegisterHealthServer(srv, m.GRPC(services...))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

func dial(t *testing.T, address, serviceConfig string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(serviceConfig))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestClientSideHealthCheckingFollowsReadiness uses grpc-go's own: its balancer
// takes a connection out of use while Watch says that it does not serve.
func TestClientSideHealthCheckingFollowsReadiness(t *testing.T) {
	m := newMonitor(t, health.Config{})
	m.Set("draining", nil)
	conn := dial(t, serveGRPC(t, m, "perennial.Echo"), `{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":"perennial.Echo"}}`)
	becomes := func(want connectivity.State) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
		defer cancel()
		conn.Connect()
		for s := conn.GetState(); s != want; s = conn.GetState() {
			if !conn.WaitForStateChange(ctx, s) {
				t.Fatalf("the connection is %v, want %v", s, want)
			}
		}
	}
	becomes(connectivity.Ready)
	m.Set("draining", errors.New("an upgrade is under way"))
	becomes(connectivity.TransientFailure)
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a call to a server that is not ready: %v, want Unavailable", err)
	}
	m.Set("draining", nil)
	becomes(connectivity.Ready)
	m.HandOver()
	m.Set("draining", errors.New("a successor serves here"))
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || conn.GetState() != connectivity.Ready {
		t.Errorf("a call before the connection is ended: %v, the connection is %v", err, conn.GetState())
	}
}

func TestGRPCAnswersEachQuestion(t *testing.T) {
	m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "loop", Kind: health.Liveness, Func: fails}}})
	m.Set("registration", nil)
	m.Evaluate(t.Context())
	client := healthpb.NewHealthClient(dial(t, serveGRPC(t, m), "{}"))
	list, err := client.List(t.Context(), &healthpb.HealthListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]healthpb.HealthCheckResponse_ServingStatus{
		"": healthpb.HealthCheckResponse_SERVING, "readiness": healthpb.HealthCheckResponse_SERVING,
		"liveness": healthpb.HealthCheckResponse_NOT_SERVING, "startup": healthpb.HealthCheckResponse_SERVING,
	}
	if len(list.GetStatuses()) != len(want) {
		t.Errorf("List: %v", list.GetStatuses())
	}
	for service, status := range want {
		r, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || r.GetStatus() != status || list.GetStatuses()[service].GetStatus() != status {
			t.Errorf("%q: Check %v, %v; List %v; want %v", service, r.GetStatus(), err, list.GetStatuses()[service].GetStatus(), status)
		}
	}
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "other"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown service: %v, want NotFound", err)
	}
}

func TestWatchTellsEachChangeOnce(t *testing.T) {
	m := newMonitor(t, health.Config{})
	m.Set("draining", nil)
	client := healthpb.NewHealthClient(dial(t, serveGRPC(t, m), "{}"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := func(service string) func() healthpb.HealthCheckResponse_ServingStatus {
		t.Helper()
		stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		return func() healthpb.HealthCheckResponse_ServingStatus {
			t.Helper()
			r, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return r.GetStatus()
		}
	}
	unknown, ready := watch("other"), watch("")
	if got := unknown(); got != healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		t.Errorf("an unknown service is %v, want SERVICE_UNKNOWN and an open stream", got)
	}
	for i, want := range []healthpb.HealthCheckResponse_ServingStatus{
		healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING, healthpb.HealthCheckResponse_SERVING,
	} {
		if got := ready(); got != want {
			t.Fatalf("answer %d is %v, want %v", i, got, want)
		}
		m.Set("unrelated", nil) // changes the tree and no answer
		if i%2 == 0 {
			m.Set("draining", errDown)
		} else {
			m.Set("draining", nil)
		}
	}
}

func TestWatchesAreBounded(t *testing.T) {
	client := healthpb.NewHealthClient(dial(t, serveGRPC(t, newMonitor(t, health.Config{})), "{}"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := 0
	for {
		stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) == codes.ResourceExhausted {
			break
		}
		if open++; err != nil || open > 1000 {
			t.Fatalf("%d streams are open: %v", open, err)
		}
	}
	if open != 1000 {
		t.Errorf("refused after %d streams, want 1000", open)
	}
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("Check is refused with them: %v", err)
	}
}

// TestGRPCHealthProbeUnderstandsTheAnswers runs the program that Kubernetes
// clusters use.
func TestGRPCHealthProbeUnderstandsTheAnswers(t *testing.T) {
	program := peertest.Find(t, "grpc-health-probe", "v0.4.62")
	m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "loop", Kind: health.Liveness, Func: fails}}})
	m.Evaluate(t.Context())
	m.SetStartup("cache", nil)
	address := serveGRPC(t, m)
	for service, want := range map[string]int{"": 0, "liveness": 4, "startup": 0, "other": 3} {
		out, err := exec.CommandContext(t.Context(), program, "-addr", address, "-service", service).CombinedOutput()
		code := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code, err = exit.ExitCode(), nil
		}
		if err != nil || code != want {
			t.Errorf("%q: exit code %d, %v, want %d: %s", service, code, err, want, out)
		}
	}
	m.Set("draining", errDown)
	out, err := exec.CommandContext(t.Context(), program, "-addr", address).CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 4 {
		t.Errorf("while it drains: %v, want exit code 4: %s", err, out)
	}
}
