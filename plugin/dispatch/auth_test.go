package dispatch_test

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// An agent that was broken into must not see or change the tasks of others.
func TestAgentNeedsNoMoreThanItsOwnKeys(t *testing.T) {
	r := newRigWith(t, etcdtest.Options{Auth: &etcdtest.Auth{}})
	ctx := t.Context()
	key, prefixes := dispatch.AgentKeys("", "a")
	confined := r.server.User(t, "a", append([]string{key}, prefixes...)...)
	r.dispatcher("confined", func(c *dispatch.DispatcherConfig) { c.Client = confined })
	waittest.Until(t, "it says that it cannot", func() bool { return r.log.Has("no candidate here") })
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
	if n := r.log.Count("no candidate here"); n != 1 {
		t.Errorf("it says so %d times", n)
	}
}

func TestDispatcherThatMayNotWriteAnyMoreLeavesItToOthers(t *testing.T) {
	r := newRigWith(t, etcdtest.Options{Auth: &etcdtest.Auth{}})
	prefix := dispatch.Prefix("")
	once := r.server.User(t, "once", prefix)
	r.dispatcher("once", func(c *dispatch.DispatcherConfig) { c.Client = once })
	r.agent("a", newHost(map[string]work{"do": nothing}))
	r.becomes(r.submit(dispatch.Task{}), dispatch.Succeeded)
	r.dispatcher("other")
	if _, err := r.client.RoleRevokePermission(t.Context(), "once", prefix, clientv3.GetPrefixRangeEnd(prefix)); err != nil {
		t.Fatal(err)
	}
	r.becomes(r.submit(dispatch.Task{}), dispatch.Succeeded)
	waittest.Until(t, "it says that it cannot", func() bool { return r.log.Has("no candidate here") })
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
