package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/perennial-go/perennial/health"
)

const healthAddress = "health-address"

// serveHealth has the test agent answer grpc.health.v1, at an address that it
// leaves in its state directory.
func serveHealth(a *Agent, stateDir string) error {
	ln, err := a.ListenNamed("health", "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := grpc.NewServer(a.GRPCOptions()...)
	healthpb.RegisterHealthServer(srv, a.Health().GRPC())
	a.ServeGRPC(ln, srv)
	return os.WriteFile(filepath.Join(stateDir, healthAddress), []byte(ln.Addr().String()), 0o600)
}

// illCheck fails in one version while the file ill-<version> is there.
func illCheck(stateDir, version string) health.Check {
	return health.Check{Name: "ill", Every: 20 * time.Millisecond, Func: func(context.Context) error {
		if _, err := os.Stat(filepath.Join(stateDir, "ill-"+version)); err == nil {
			return errors.New("ill")
		}
		return nil
	}}
}
