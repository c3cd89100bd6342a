package config_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// saysLost waits until the status tells that etcd lost the documents, and that
// revision still runs.
func (r *rig) saysLost(t *testing.T, revision int64) {
	t.Helper()
	waittest.Until(t, "the status says that the documents are gone", func() bool {
		return strings.Contains(r.Status().Error, "holds none of this agent's documents")
	})
	s := r.Status()
	if s.Running != revision || r.Snapshot().Value.Server.Port != 9 || !strings.Contains(s.Error, "{}") {
		t.Errorf("want revision %d to go on, and what to do, got %+v", revision, s)
	}
}

// runsPort waits for a configuration, whatever its revision: a new store
// counts from one.
func (r *rig) runsPort(t *testing.T, port uint16) {
	t.Helper()
	waittest.Until(t, "the configuration follows etcd", func() bool {
		return r.Snapshot().Value.Server.Port == port && r.Status().Error == ""
	})
}

// TestEmptiedEtcdDoesNotEmptyTheConfiguration: everybody would fall to the
// defaults at once because somebody exchanged a disk. Neither does it for those
// that start after it.
func TestEmptiedEtcdDoesNotEmptyTheConfiguration(t *testing.T) {
	server := etcdtest.Start(t)
	c := server.Client(t)
	file := goodFile(t)
	publish(t, c, "global", "server: {port: 8}")
	r := newRig(t, c, file)
	r.start(t)
	r.keepsFile(t)
	// What comes after the listing came by the watch: one that is only opened in
	// the new store notices by its silence alone, which takes longer.
	revision := publish(t, c, "global", "server: {port: 9}")
	r.runs(t, revision)
	waittest.Until(t, "the file has it", func() bool {
		var kept struct{ Revision int64 }
		data, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(data, &kept) == nil && kept.Revision == revision
	})
	server.Wipe()
	r.saysLost(t, revision)
	r.stop(t)

	// The new store grows past what was seen of the old one.
	for range 10 {
		putRaw(t, c, "/other", "x")
	}
	r = newRig(t, c, file)
	r.start(t)
	r.saysLost(t, revision)
	// A bad document is none to go on from.
	putRaw(t, c, "/agents/config/global", "server: {port: many}")
	waittest.Until(t, "it is refused", func() bool { return strings.Contains(r.Status().Error, "port: want uint16") })
	if _, err := c.Delete(t.Context(), "/agents/config/global"); err != nil {
		t.Fatal(err)
	}
	r.saysLost(t, revision)
	publish(t, c, "group/web", "server: {port: 10}")
	r.runsPort(t, 10)
	// From here on it is a store as any other.
	if _, err := c.Delete(t.Context(), "/agents/config/group/web"); err != nil {
		t.Fatal(err)
	}
	r.runsPort(t, 80)
}

// TestEmptiedEtcdIsNoticedByWhoeverWasDown during the loss, and an empty
// document says that none is meant.
func TestEmptiedEtcdIsNoticedByWhoeverWasDown(t *testing.T) {
	server := etcdtest.Start(t)
	c := server.Client(t)
	file := goodFile(t)
	for range 10 {
		putRaw(t, c, "/other", "x")
	}
	revision := publish(t, c, "global", "server: {port: 9}")
	r := newRig(t, c, file)
	r.start(t)
	r.keepsFile(t)
	r.stop(t)
	server.Wipe()
	r = newRig(t, c, file)
	r.start(t)
	r.saysLost(t, revision)
	publish(t, c, "global", "{}")
	r.runsPort(t, 80)
}

// TestAnotherClusterIsToldByItsId even where it has more behind it.
func TestAnotherClusterIsToldByItsId(t *testing.T) {
	old := etcdtest.Start(t)
	other := etcdtest.StartWith(t, etcdtest.Options{Flags: []string{"--initial-cluster-token=other"}})
	file := goodFile(t)
	revision := publish(t, old.Client(t), "global", "server: {port: 9}")
	r := newRig(t, old.Client(t), file)
	r.start(t)
	r.keepsFile(t)
	r.stop(t)
	if cluster(t, old.Client(t)) == cluster(t, other.Client(t)) {
		t.Fatal("both have one cluster id")
	}
	for range 20 {
		putRaw(t, other.Client(t), "/other", "x")
	}
	r = newRig(t, other.Client(t), file)
	r.start(t)
	r.saysLost(t, revision)
	if s := r.Status(); s.Origin != config.OriginFile {
		t.Errorf("origin %q", s.Origin)
	}
}

func cluster(t *testing.T, c *clientv3.Client) uint64 {
	t.Helper()
	r, err := c.Get(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.ClusterId
}

// TestDeletionWhileTheAgentIsDownIsFollowed: the store is still the same.
func TestDeletionWhileTheAgentIsDownIsFollowed(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	file := goodFile(t)
	publish(t, c, "global", "server: {port: 9}")
	r := newRig(t, c, file)
	r.start(t)
	r.keepsFile(t)
	r.stop(t)
	if _, err := c.Delete(t.Context(), "/agents/config/global"); err != nil {
		t.Fatal(err)
	}
	r = newRig(t, c, file)
	r.start(t)
	r.runsPort(t, 80)
}

// TestAFileOfAnOlderReleaseTellsNoStore: its deletions are followed.
func TestAFileOfAnOlderReleaseTellsNoStore(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	file := goodFile(t)
	publish(t, c, "global", "server: {port: 9}")
	r := newRig(t, c, file)
	r.start(t)
	r.keepsFile(t)
	r.stop(t)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatal(err)
	}
	if members["store"] == nil {
		t.Fatalf("the file tells no store: %s", data)
	}
	delete(members, "store")
	if data, err = json.Marshal(members); err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err == nil {
		_, err = c.Delete(t.Context(), "/agents/config/global")
	}
	if err != nil {
		t.Fatal(err)
	}
	r = newRig(t, c, file)
	r.start(t)
	r.runsPort(t, 80)
}
