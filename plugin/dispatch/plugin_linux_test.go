package dispatch_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// TestTasksGoOnWhileTheirPluginIsReplaced has a real plugin process work, and
// replaces it by another version under it.
func TestTasksGoOnWhileTheirPluginIsReplaced(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	install := func(version string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "counter")
		if err := reexec.Copy(path, version); err != nil {
			t.Fatal(err)
		}
		m := plugin.Manifest{Name: "counter", Version: version, Capabilities: []string{"count", "never"}}
		if _, err := plugin.Install(dir, path, m); err != nil {
			t.Fatal(err)
		}
	}
	install("1.0.0")
	session, err := etcdkv.NewSession(etcdkv.SessionConfig{Client: r.client, TTL: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	manager, err := plugin.New(plugin.Config{
		Dir: dir, StateDir: filepath.Join(t.TempDir(), "state"), ScanEvery: 100 * time.Millisecond, HealthEvery: 100 * time.Millisecond,
		StopTimeout: 3 * time.Second, Logger: r.logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	worker, err := dispatch.NewWorker(dispatch.WorkerConfig{
		Client: r.client, AgentID: "a", Instance: "i", Plugins: manager, Logger: r.logger,
		Lease: func() clientv3.LeaseID { return clientv3.LeaseID(session.Lease()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- manager.Run(ctx) }()
	r.background(session.Run)
	r.background(worker.Run)
	r.dispatcher("d")
	t.Cleanup(func() {
		stop()
		if err := waittest.Next(t, "the manager ends", ended); err != nil {
			t.Error(err)
		}
	})
	never := r.submit(dispatch.Task{Capability: "never"})
	if info := r.becomes(never, dispatch.Dead); info.Failures != 1 || !strings.Contains(info.Error, "not in this life") {
		t.Errorf("got %+v", info)
	}
	const n = 300
	id := r.submit(dispatch.Task{Capability: "count", Version: ">=1", Payload: []byte("300"), Resumable: true})
	waittest.Until(t, "it has begun", func() bool {
		results, err := r.queue.Results(t.Context(), id, 0, 10)
		return err == nil && len(results) > 5
	})
	install("1.1.0")
	if info := r.becomes(id, dispatch.Succeeded); info.Attempt != 1 {
		t.Errorf("got %+v", info)
	}
	r.counted(id, n)
	waittest.Until(t, "the plugin is replaced", func() bool {
		s := manager.List()
		return len(s) == 1 && s[0].Version == "1.1.0"
	})
}
