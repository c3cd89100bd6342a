package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	grpcstatus "google.golang.org/grpc/status"
)

// TestStrangersCannotMakeSeriesOfRequests: method and status can be what they
// choose, and each series stays for ever.
func TestStrangersCannotMakeSeriesOfRequests(t *testing.T) {
	r := newRequests()
	seen := func(method string, code int) { r.http(&http.Request{Method: method}, code, time.Millisecond) }
	for i := range 1000 {
		seen(fmt.Sprintf("METHOD%d", i), 200)
		seen(http.MethodGet, i)
		seen(http.MethodPost, i)
		seen(http.MethodPut, i)
		r.grpc(codes.Code(i), time.Millisecond) //nolint:gosec // small
	}
	// Each method has one more, for what is folded.
	if n := testutil.CollectAndCount(r.metric); n < 60 || n > maxRequestSeries+11 {
		t.Errorf("%d series, want at most %d and one for each method", n, maxRequestSeries)
	}
	total := uint64(0)
	for i := range r.recent.counts {
		total += r.recent.counts[i].Load()
	}
	if total != 5000 {
		t.Errorf("%d requests were counted for the percentile, want 5000", total)
	}
	if n := len(*r.series.Load()); n > maxRequestSeries {
		t.Errorf("%d pairs are remembered", n)
	}
}

// TestRevisionThatIsNoTextCostsNoMetrics: all of a collector go if one cannot be
// shown.
func TestRevisionThatIsNoTextCostsNoMetrics(t *testing.T) {
	m := newMetrics(&Agent{cfg: Config{Version: "1.0.0", Revision: "\xff\xfe"}, lifecycle: newLifecycle(func() {})})
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// TestPercentileIsOfTheLastMinute: one that goes by all requests since the start
// neither rises nor falls when something happens.
func TestPercentileIsOfTheLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRequests()
		p95 := func() float64 {
			t.Helper()
			s, err := r.p95(t.Context())
			if err != nil || s.Basis == "" {
				t.Fatal(s, err)
			}
			return s.Value
		}
		serve := func(n int, took time.Duration) {
			for range n {
				r.http(&http.Request{Method: http.MethodGet}, 200, took)
			}
		}
		if got := p95(); got != 0 {
			t.Errorf("%v before any request", got)
		}
		for range 30 { // five minutes of quick ones
			serve(1000, 3*time.Millisecond)
			time.Sleep(p95Every) //nolint:forbidigo // of synctest
			if got := p95(); got < .001 || got > .005 {
				t.Fatalf("%v s, want some 3 ms", got)
			}
		}
		serve(10, 3*time.Millisecond)
		for i := range 8 {
			serve(10, 700*time.Millisecond)
			time.Sleep(p95Every) //nolint:forbidigo // of synctest
			got := p95()
			if i == 7 && (got <= .5 || got > 1) {
				t.Errorf("%v s after more than a minute of slow requests only, want more than 0.5", got)
			}
		}
		for range 7 {
			time.Sleep(p95Every) //nolint:forbidigo // of synctest
			_ = p95()
		}
		if got := p95(); got != 0 {
			t.Errorf("%v s after a minute without requests, want 0: an alert would stay", got)
		}
	})
}

func TestQuantileIsAsPrometheusComputesIt(t *testing.T) {
	bounds := []float64{.1, .5, 1}
	for _, c := range []struct {
		counts []uint64
		want   float64
	}{
		{[]uint64{0, 0, 0, 0}, 0},
		{[]uint64{100, 0, 0, 0}, .095},
		{[]uint64{0, 100, 0, 0}, .48},
		{[]uint64{95, 0, 5, 0}, .1},
		{[]uint64{90, 0, 10, 0}, .75},
		{[]uint64{0, 0, 0, 9}, 1}, // above all bounds
	} {
		if got := quantile(.95, bounds, c.counts); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v: %v, want %v", c.counts, got, c.want)
		}
	}
}

// sickly is a service of gRPC that fails one of its calls.
type sickly struct {
	healthpb.UnimplementedHealthServer
}

func (sickly) Check(_ context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if r.GetService() == "sick" {
		return nil, grpcstatus.Error(codes.NotFound, "no such service")
	}
	if r.GetService() == "late" { // as a handler returns what it is told
		return nil, fmt.Errorf("asking another: %w", context.DeadlineExceeded)
	}
	return &healthpb.HealthCheckResponse{}, nil
}

// TestGRPCCallsAreMeasuredByTheirCode over a real connection.
func TestGRPCCallsAreMeasuredByTheirCode(t *testing.T) {
	a := &Agent{}
	a.metrics = newMetrics(a)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(a.GRPCOptions()...)
	healthpb.RegisterHealthServer(srv, sickly{})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	defer func() {
		srv.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for service, want := range map[string]codes.Code{"": codes.OK, "sick": codes.NotFound, "late": codes.DeadlineExceeded} {
		_, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if grpcstatus.Code(err) != want {
			t.Fatal(err)
		}
	}
	seen := *a.metrics.requests.series.Load()
	for _, want := range []codes.Code{codes.OK, codes.NotFound, codes.DeadlineExceeded} {
		if len(seen) != 3 || seen[requestKind{grpcMethod, int(want)}] == nil {
			t.Errorf("measured %v", seen)
		}
	}
}

// BenchmarkMeasuredRequest is what is added to each request of a server, but for
// two looks at the clock.
func BenchmarkMeasuredRequest(b *testing.B) {
	r := newRequests()
	req := &http.Request{Method: http.MethodGet}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.http(req, 200, 3*time.Millisecond)
		}
	})
}
