package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

// watching is a client that connects anew and watches the agent's readiness.
// The channel is closed with its connection.
func (m *member) watching() <-chan healthpb.HealthCheckResponse_ServingStatus {
	m.Helper()
	address, err := os.ReadFile(filepath.Join(m.state, healthAddress))
	if err != nil {
		m.Fatal(err)
	}
	conn, err := grpc.NewClient(string(address), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = conn.Close() })
	stream, err := healthpb.NewHealthClient(conn).Watch(m.ctx(), &healthpb.HealthCheckRequest{})
	if err != nil {
		m.Fatal(err)
	}
	told := make(chan healthpb.HealthCheckResponse_ServingStatus, 16)
	go func() {
		defer close(told)
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			told <- r.GetStatus()
		}
	}()
	return told
}

func TestReadinessIsOffInADrainAndOnAgainAfterARollback(t *testing.T) {
	t.Parallel()
	const serving, not = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	m := newFleet(t).member("a1")
	m.env.GRPC, m.env.Probation = true, time.Minute
	m.start()
	m.registered()
	incumbent := m.watching()
	if got := waittest.Next(t, "the incumbent says how it is", incumbent); got != serving {
		t.Fatalf("the incumbent is %v", got)
	}
	order := m.order(build{Version: "1.1.0"})
	waittest.Nil(t, "the successor is on probation", func() error {
		r, err := upgrade.Inspect(m.state)
		if err == nil && r.Journal.State != upgrade.Probation {
			err = fmt.Errorf("the attempt is %s", r.Journal.State)
		}
		return err
	})
	successor := m.watching()
	waittest.Until(t, "the successor is ready", func() bool { return waittest.Next(t, "the successor says how it is", successor) == serving })
	if err := os.WriteFile(filepath.Join(m.state, "ill-1.1.0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := waittest.Next(t, "the successor is ill", successor); got != not {
		t.Errorf("a successor that fails is %v", got)
	}
	m.ends(order, upgrade.RolledBack)
	if got := waittest.Next(t, "the successor lets its clients go", successor); got != 0 {
		t.Errorf("the successor drains, and says %v", got)
	}
	if got := waittest.Next(t, "who connects after the rollback is answered", m.watching()); got != serving {
		t.Errorf("after the rollback the agent is %v", got)
	}
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// It was ready all the time: what it serves does not depend on the successor.
	if got := waittest.Next(t, "the agent drains", incumbent); got != not {
		t.Errorf("an agent that drains is %v", got)
	}
	waittest.Next(t, "the agent ends", m.done)
}
