package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

// working is an agent of which only the host program's work runs; drain does
// what Run does at its end.
func working(t *testing.T) (a *Agent, drain func(upgrade.Drain) <-chan error) {
	t.Helper()
	a = &Agent{}
	a.metrics = newMetrics(a)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	a.host.begin(ctx, func(err error) { t.Errorf("the agent fails: %v", err) })
	return a, func(d upgrade.Drain) <-chan error {
		cancel()
		done := make(chan error, 1)
		go func() { done <- a.host.drain(context.Background(), d) }()
		return done
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// quick is a drain that waits only for what is in progress.
var quick = upgrade.Drain{Tail: 1, Idle: 1, Streams: 24 * time.Hour, Timeout: 24 * time.Hour}

func TestTaskThatDoesNotEndIsNamedAtTheDrainsLimit(t *testing.T) {
	a, drain := working(t)
	release := make(chan struct{})
	defer close(release)
	a.Go("spinner", func(context.Context) error { <-release; return nil })
	a.Go("good", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	d := quick
	d.Timeout = 100 * time.Millisecond
	err := waittest.Next(t, "the drain ends", drain(d))
	if err == nil || !strings.Contains(err.Error(), "1 background tasks did not end in time: spinner:") {
		t.Errorf("drain: %v, want the one task that did not end", err)
	}
}

func TestErrorsOfEveryServerAreTold(t *testing.T) {
	a, drain := working(t)
	release, entered := make(chan struct{}), make(chan struct{}, 2)
	defer close(release)
	for range 2 {
		ln := listen(t)
		a.ServeHTTP(ln, &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			entered <- struct{}{}
			<-release
		})})
		go func() {
			client := &http.Client{Transport: &http.Transport{}}
			res, err := client.Get("http://" + ln.Addr().String())
			if err == nil {
				_ = res.Body.Close()
			}
		}()
		waittest.Next(t, "the request is there", entered)
	}
	d := quick
	d.Timeout = 100 * time.Millisecond
	err := waittest.Next(t, "the drain ends", drain(d))
	if !errors.Is(err, upgrade.ErrCutOff) || strings.Count(err.Error(), "1 request") != 2 {
		t.Errorf("drain: %v, want a request cut off on each server", err)
	}
}

func TestServerThatComesInADrainDoesNotServe(t *testing.T) {
	a, drain := working(t)
	if err := waittest.Next(t, "the drain ends", drain(quick)); err != nil {
		t.Fatal(err)
	}
	web, rpc := listen(t), listen(t)
	a.ServeHTTP(web, &http.Server{})
	a.ServeGRPC(rpc, grpc.NewServer())
	for _, ln := range []net.Listener{web, rpc} {
		waittest.Until(t, "the listener is closed", func() bool {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err == nil {
				_ = conn.Close()
			}
			return err != nil
		})
	}
	a.host.tasks.Wait()
}

// watch opens a stream that does not end by itself.
func watch(t *testing.T, ln net.Listener) (healthpb.HealthClient, grpc.ServerStreamingClient[healthpb.HealthCheckResponse]) {
	t.Helper()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := healthpb.NewHealthClient(conn)
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	return client, stream
}

func TestGRPCStreamEndsWhenItsTimeIsOver(t *testing.T) {
	a, drain := working(t)
	ln := listen(t)
	srv := grpc.NewServer(a.GRPCOptions()...)
	healthpb.RegisterHealthServer(srv, health.NewServer())
	a.ServeGRPC(ln, srv)
	_, stream := watch(t, ln)
	d := quick
	d.Streams = 50 * time.Millisecond
	if err := waittest.Next(t, "the drain ends", drain(d)); !errors.Is(err, upgrade.ErrCutOff) || !strings.Contains(err.Error(), "1 gRPC stream") {
		t.Errorf("drain: %v, want one stream cut off", err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream goes on")
	}
}

// tellingHealth ends its stream when it is told to.
type tellingHealth struct{ *health.Server }

func (s tellingHealth) Watch(_ *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if err := stream.Send(&healthpb.HealthCheckResponse{}); err != nil {
		return err
	}
	<-upgrade.Draining(stream.Context())
	return nil
}

func TestGRPCHandlersLearnOfTheDrainThroughTheirContext(t *testing.T) {
	a, drain := working(t)
	ln := listen(t)
	srv := grpc.NewServer(a.GRPCOptions()...)
	healthpb.RegisterHealthServer(srv, tellingHealth{health.NewServer()})
	a.ServeGRPC(ln, srv)
	watch(t, ln)
	if err := waittest.Next(t, "the drain ends", drain(quick)); err != nil {
		t.Error(err)
	}
}
