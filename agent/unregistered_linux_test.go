package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/upgrade"
)

// TestFirstStartThatEtcdRefusesSaysWhat: an operator would otherwise look for an
// outage where a role is missing.
func TestFirstStartThatEtcdRefusesSaysWhat(t *testing.T) {
	t.Parallel()
	server := etcdtest.StartWith(t, etcdtest.Options{Auth: &etcdtest.Auth{}})
	if _, err := server.Client(t).UserAdd(t.Context(), "poor", "secret of poor"); err != nil {
		t.Fatal(err)
	}
	cfg := idle(t)
	cfg.Etcd.Endpoints, cfg.Etcd.Username, cfg.Etcd.Password = []string{server.URL()}, "poor", "secret of poor"
	cfg.ConnectTimeout, cfg.Upgrade = 2*time.Second, upgrade.Config{CheckEvery: -1}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = a.Run(t.Context())
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v, want one that does not count against the release", err)
	}
	if text := err.Error(); !strings.Contains(text, "permission denied") || strings.Contains(text, "did not answer") || strings.Contains(text, "not reachable") {
		t.Errorf("it says %q", text)
	}
}
