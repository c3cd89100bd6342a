package agent

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

func TestSupervisedAgentIsRegisteredWithTheServingProcessesPID(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.Supervise = upgrade.SuperviseAlways
	m.start()
	supervisor := m.cmd.Process.Pid
	before := m.registered()
	if before.PID == supervisor {
		t.Error("the supervisor is registered")
	}
	pin := f.publish(build{Version: "1.1.0"})
	if _, err := f.dir.Order(f.ctx(), "a1", upgrade.Request{Pin: pin, By: "test"}); err != nil {
		t.Fatal(err)
	}
	waittest.Nil(t, "1.1.0 is registered", func() error {
		if e := m.registered(); e.Version != "1.1.0" || e.PID == before.PID || e.PID == supervisor {
			return fmt.Errorf("registered: %+v", e.Registration)
		}
		return nil
	})
	if err := syscall.Kill(supervisor, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waittest.Next(t, "the supervisor ends", m.done)
	if m.err != nil {
		t.Errorf("SIGTERM ended the agent with %v, want 0", m.err)
	}
	if entries, err := listed(f.ctx(), f.dir); err != nil || len(entries) > 0 {
		t.Errorf("after a clean stop the registry holds %+v, %v", entries, err)
	}
}
