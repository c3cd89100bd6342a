package agent

import (
	"errors"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// TestOrderIsNotAcknowledgedByAProcessThatWasSuperseded: it would take away
// what its successor, or another agent, has yet to do.
func TestOrderIsNotAcknowledgedByAProcessThatWasSuperseded(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	client := f.etcd.Client(t)
	old, next := f.registryOf(t, client, t.TempDir()), f.registryOf(t, client, "")
	next.instance = old.instance
	order := newKeys("").order("a1")
	granted, err := client.Grant(f.ctx(), 60)
	if err != nil {
		t.Fatal(err)
	}
	reg := Registration{Schema: schema, ID: "a1", Instance: old.instance.ID}
	if err := old.register(f.ctx(), int64(granted.ID), reg); err != nil {
		t.Fatal(err)
	}
	put, err := client.Put(f.ctx(), order, "{}")
	if err != nil {
		t.Fatal(err)
	}
	if err := next.register(f.ctx(), int64(granted.ID), reg); err != nil {
		t.Fatal(err)
	}
	if err := old.acknowledge(f.ctx(), order, put.Header.Revision); !errors.Is(err, errFenced) {
		t.Errorf("the superseded process acknowledged: %v", err)
	}
	if v, _, _ := f.found(client, order); v == nil {
		t.Error("the order is gone")
	}
	if err := next.acknowledge(f.ctx(), order, put.Header.Revision-1); err != nil {
		t.Errorf("an order that was replaced: %v, want nothing to do", err)
	}
	if err := next.acknowledge(f.ctx(), order, put.Header.Revision); err != nil {
		t.Error(err)
	}
	if v, _, _ := f.found(client, order); v != nil {
		t.Error("the order that was answered is still there")
	}
}

// TestSuccessorDoesNotTakeWhatItsPredecessorWroteForTheWorkOfSomebodyElse: every
// upgrade would be told as an attack.
func TestSuccessorDoesNotTakeWhatItsPredecessorWroteForTheWorkOfSomebodyElse(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	client := f.etcd.Client(t)
	old, next := f.registryOf(t, client, t.TempDir()), f.registryOf(t, client, "")
	next.instance = old.instance
	granted, err := client.Grant(f.ctx(), 60)
	if err != nil {
		t.Fatal(err)
	}
	reg := Registration{Schema: schema, ID: "a1", Instance: old.instance.ID}
	err = old.register(f.ctx(), int64(granted.ID), reg)
	plugin := PluginRecord{Schema: schema}
	plugin.Name = "p"
	if err == nil {
		_, err = old.write(f.ctx(), reg, Status{Schema: schema}, []PluginRecord{plugin}, false)
	}
	if err == nil {
		err = next.register(f.ctx(), int64(granted.ID), reg)
	}
	if err != nil {
		t.Fatal(err)
	}
	v := etcdkv.View{Values: map[string]etcdkv.Value{}}
	for _, key := range []string{next.keys.registry("a1"), next.keys.status("a1"), next.keys.plugin("a1", "p")} {
		got, err := client.Get(f.ctx(), key)
		if err != nil || len(got.Kvs) != 1 {
			t.Fatalf("%s: %+v, %v", key, got, err)
		}
		v.Values[key], v.Revision = etcdkv.Value{ModRevision: got.Kvs[0].ModRevision}, got.Header.Revision
	}
	if damaged := next.damage(v); len(damaged) != 0 {
		t.Errorf("damaged: %v", damaged)
	}
}

// registryOf is a registry for a1, with an instance of its own where dir is
// not empty.
func (f *fleet) registryOf(t *testing.T, c *clientv3.Client, dir string) *registry {
	t.Helper()
	r := &registry{client: c, keys: newKeys(""), id: "a1"}
	if dir != "" {
		var err error
		if r.instance, err = openInstance(dir); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// TestMoreKeysThanOneTransactionTakesAreWrittenAndMoved: an agent with 120
// plugins would otherwise never be seen.
func TestMoreKeysThanOneTransactionTakesAreWrittenAndMoved(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	client := f.etcd.Client(t)
	r := f.registryOf(t, client, t.TempDir())
	reg := Registration{Schema: schema, ID: "a1", Instance: r.instance.ID}
	var plugins []PluginRecord
	for i := range 250 {
		p := PluginRecord{Schema: schema}
		p.Name = fmt.Sprintf("p%03d", i)
		plugins = append(plugins, p)
	}
	for i := range 2 {
		granted, err := client.Grant(f.ctx(), 60)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.register(f.ctx(), int64(granted.ID), reg); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := r.write(f.ctx(), reg, Status{Schema: schema}, plugins, false); err != nil {
				t.Fatal(err)
			}
		}
		ttl, err := client.TimeToLive(f.ctx(), granted.ID, clientv3.WithAttachedKeys())
		if err != nil || len(ttl.Keys) != 252 {
			t.Errorf("%d keys hang on lease %d (%v), want 252", len(ttl.Keys), i, err)
		}
	}
	if _, err := r.write(f.ctx(), reg, Status{Schema: schema}, plugins[:1], false); err != nil {
		t.Fatal(err)
	}
	e, err := f.dir.Get(f.ctx(), "a1")
	if err != nil || len(e.Plugins) != 1 {
		t.Errorf("%d plugins are left (%v), want 1", len(e.Plugins), err)
	}
}

// TestAgentThatChangesItsPartInRolloutsJoinsAnew: a mark that passed before would let it
// in, and nobody would have counted it.
func TestAgentThatChangesItsPartInRolloutsJoinsAnew(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	client := f.etcd.Client(t)
	granted, err := client.Grant(f.ctx(), 60)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	old := f.registryOf(t, client, dir)
	reg := Registration{Schema: schema, ID: "a1", Instance: old.instance.ID, Fleet: "default", Labels: map[string]string{"env": "test"}, Groups: []string{"web"}, Host: "h1", Platform: "linux/amd64"}
	if err := old.register(f.ctx(), int64(granted.ID), reg); err != nil {
		t.Fatal(err)
	}
	joins := func(what string, anew bool, change func(*Registration)) {
		t.Helper()
		before, _, err := old.read(f.ctx())
		if err != nil {
			t.Fatal(err)
		}
		change(&reg)
		next := f.registryOf(t, client, "")
		next.instance = old.instance
		if err := next.register(f.ctx(), int64(granted.ID), reg); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		now, _, err := next.read(f.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if (now.CreateRevision != before.CreateRevision) != anew || next.member.since() != now.CreateRevision {
			t.Errorf("%s: it joined at %d, and knows of %d, before at %d: want it anew: %t", what, now.CreateRevision, next.member.since(), before.CreateRevision, anew)
		}
	}
	joins("another version", false, func(r *Registration) { r.Version, r.PID = "1.1.0", 7 })
	joins("another fleet", true, func(r *Registration) { r.Fleet = "edge" })
	joins("another label", true, func(r *Registration) { r.Labels = map[string]string{"env": "production"} })
	joins("another group", true, func(r *Registration) { r.Groups = nil })
	joins("another host", true, func(r *Registration) { r.Host = "h2" })
}
