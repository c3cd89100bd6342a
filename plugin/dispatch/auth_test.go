package dispatch_test

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// An agent that was broken into must not see or change the tasks of others.
func TestAgentNeedsNoMoreThanItsOwnKeys(t *testing.T) {
	r := newRigWith(t, etcdtest.Options{Auth: &etcdtest.Auth{}})
	ctx := t.Context()
	key, prefixes := dispatch.AgentKeys("", "a")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.client.RoleAdd(ctx, "agent-a")
	do(err)
	rw := clientv3.PermissionType(clientv3.PermReadWrite)
	_, err = r.client.RoleGrantPermission(ctx, "agent-a", key, "", rw)
	do(err)
	for _, prefix := range prefixes {
		_, err = r.client.RoleGrantPermission(ctx, "agent-a", prefix, clientv3.GetPrefixRangeEnd(prefix), rw)
		do(err)
	}
	_, err = r.client.UserAdd(ctx, "a", "secret")
	do(err)
	_, err = r.client.UserGrantRole(ctx, "a", "agent-a")
	do(err)
	cfg := r.server.ClientConfig()
	cfg.Username, cfg.Password = "a", "secret"
	confined, err := etcdkv.Dial(cfg)
	do(err)
	t.Cleanup(func() { _ = confined.Close() })

	r.dispatcher("confined", func(c *dispatch.DispatcherConfig) { c.Client = confined })
	waittest.Until(t, "it says that it cannot", func() bool { return r.log.Has("no dispatcher of tasks here") })
	r.dispatcher("d")
	r.agent("b", newHost(map[string]work{"other": nothing}))
	r.agent("a", newHost(map[string]work{"do": count(4, nil)}), func(c *dispatch.WorkerConfig) { c.Client = confined })
	id := r.submit(dispatch.Task{})
	r.becomes(id, dispatch.Succeeded)
	r.counted(id, 4)
	for _, not := range []string{"spec/" + id, "state/" + id, "done/" + id, "leader", "worker/b", "inbox/b/" + id, "result/b/" + id + "/1"} {
		if _, err := confined.Get(ctx, dispatch.Prefix("")+not); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("it can read %s: %v", not, err)
		}
		if _, err := confined.Put(ctx, dispatch.Prefix("")+not, ""); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("it can write %s: %v", not, err)
		}
	}
	if n := r.log.Count("no dispatcher of tasks here"); n != 1 {
		t.Errorf("it says so %d times", n)
	}
}

// What an agent makes up about tasks that it was not given changes nothing.
func TestOutcomeThatIsMadeUpIsDiscarded(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	release := make(chan struct{})
	r.agent("a", newHost(map[string]work{"do": held(release)}))
	id := r.submit(dispatch.Task{})
	r.becomes(id, dispatch.Running)
	value := `{"schema":1,"attempt":1,"instance":"x","ended":"succeeded","started":"2026-01-02T03:04:05Z","finished":"2026-01-02T03:04:05Z"}`
	for _, key := range []string{"outcome/b/" + id, "outcome/b/never-was"} {
		if _, err := r.client.Put(t.Context(), dispatch.Prefix("")+key, value); err != nil {
			t.Fatal(err)
		}
	}
	r.clean("b")
	if info := r.get(id); info.State != dispatch.Running {
		t.Errorf("got %+v", info)
	}
	close(release)
	if info := r.becomes(id, dispatch.Succeeded); info.Agent != "a" {
		t.Errorf("got %+v", info)
	}
}
