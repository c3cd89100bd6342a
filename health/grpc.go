package health

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// maxWatches bounds the streams of one server: each holds a goroutine for as
// long as its client likes.
const maxWatches = 1000

// GRPC returns a server of grpc.health.v1 for registering with a gRPC server,
// by healthpb.RegisterHealthServer. The service "" and "readiness" is whether
// the process is ready, as are the names in services, for clients that ask
// about a service by its own name; "liveness" is whether it is live, "startup"
// whether startup is over. Any other is unknown: Check refuses it, and Watch
// says so and goes on, as the protocol wants.
//
// Watch tells a change at once, and the last state alone to a client that does
// not keep up, but for what HandOver says. 1000 streams may be open; more are
// refused with ResourceExhausted. They end with their clients, or when the gRPC
// server stops.
func (m *Monitor) GRPC(services ...string) healthpb.HealthServer {
	s := &grpcServer{m: m, answers: map[string]func(answers) bool{
		"liveness": func(a answers) bool { return a.live },
		"startup":  func(a answers) bool { return a.started },
	}}
	for _, name := range append([]string{"", "readiness"}, services...) {
		if s.answers[name] == nil {
			s.answers[name] = func(a answers) bool { return a.ready }
		}
	}
	return s
}

// HandOver has the streams of Watch tell nothing more, since another process
// serves at the same address. Clients are about to be sent there by the end of
// their connections; one that heard before that that nobody serves would fail
// its calls meanwhile. Check and the probes tell how things are.
func (m *Monitor) HandOver() { m.handedOver.Store(true) }

// grpcServer answers from the tree of m.
type grpcServer struct {
	healthpb.UnimplementedHealthServer

	m       *Monitor
	answers map[string]func(answers) bool
	watches atomic.Int64
}

// serving is what a says of service.
func (s *grpcServer) serving(service string, a answers) healthpb.HealthCheckResponse_ServingStatus {
	answer := s.answers[service]
	switch {
	case answer == nil:
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN
	case answer(a):
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

// Check implements healthpb.HealthServer.
func (s *grpcServer) Check(_ context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	a, _ := s.m.now()
	serving := s.serving(r.GetService(), a)
	if serving == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, status.Error(codes.NotFound, "unknown service: List tells those that are known")
	}
	return &healthpb.HealthCheckResponse{Status: serving}, nil
}

// List implements healthpb.HealthServer.
func (s *grpcServer) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	a, _ := s.m.now()
	all := map[string]*healthpb.HealthCheckResponse{}
	for service := range s.answers {
		all[service] = &healthpb.HealthCheckResponse{Status: s.serving(service, a)}
	}
	return &healthpb.HealthListResponse{Statuses: all}, nil
}

// Watch implements healthpb.HealthServer.
func (s *grpcServer) Watch(r *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	defer s.watches.Add(-1)
	if s.watches.Add(1) > maxWatches {
		return status.Errorf(codes.ResourceExhausted, "%d watches are open: use Check, or come back later", maxWatches)
	}
	var told *healthpb.HealthCheckResponse
	for {
		a, next := s.m.now()
		serving := s.serving(r.GetService(), a)
		if told == nil || (told.GetStatus() != serving && !s.m.handedOver.Load()) {
			told = &healthpb.HealthCheckResponse{Status: serving}
			if err := stream.Send(told); err != nil {
				return err
			}
		}
		select {
		case <-next:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}
