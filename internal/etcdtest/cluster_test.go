package etcdtest_test

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestClusterLosesLeaderMajorityAndItself would fail if tests of a cluster's
// faults had no such cluster.
func TestClusterLosesLeaderMajorityAndItself(t *testing.T) {
	t.Parallel()
	c := etcdtest.StartCluster(t, 3, etcdtest.Options{})
	client := c.Client(t)
	put(t, client, "/k", "v")
	restore := c.Backup()
	put(t, client, "/k", "later")

	old := c.Leader()
	c.Members[old].Kill()
	if now := c.Leader(); now == old {
		t.Errorf("member %d leads, which was killed", now)
	}
	put(t, client, "/k", "later")
	other := (old + 1) % 3
	c.Kill(other)
	if err := fails(t, client, time.Second); err == nil {
		t.Error("one of three answers a read")
	}
	c.Restart(old, other)
	put(t, client, "/k", "later")

	restore()
	has(t, client, "v")
	c.Wipe()
	has(t, client, "")
}

func has(t *testing.T, c *clientv3.Client, want string) {
	t.Helper()
	r, err := c.Get(patient(t), "/k")
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if len(r.Kvs) > 0 {
		got = string(r.Kvs[0].Value)
	}
	if got != want {
		t.Errorf("/k is %q, want %q", got, want)
	}
}

func TestMembersArePartitionedAlsoOneWay(t *testing.T) {
	t.Parallel()
	c := etcdtest.StartCluster(t, 3, etcdtest.Options{})
	leader := c.Leader()
	lonely := c.Members[leader].Client(t)
	put(t, lonely, "/k", "v")
	c.Isolate(leader)
	if err := fails(t, lonely, 2*time.Second); err == nil {
		t.Error("a leader that is cut off answers a read")
	}
	if now := c.Leader(); now == leader {
		t.Error("a leader that is cut off is the leader of a majority")
	}
	put(t, c.Members[(leader+1)%3].Client(t), "/k", "of the majority")
	c.Heal()
	has(t, lonely, "of the majority")

	// A follower that hears nobody, but is heard.
	leader = c.Leader()
	deaf := (leader + 1) % 3
	for i := range c.Members {
		if i != deaf {
			c.CutWay(i, deaf)
		}
	}
	if err := fails(t, c.Members[deaf].Client(t), 2*time.Second); err == nil {
		t.Error("a member that hears nobody answers a read")
	}
	put(t, c.Members[(leader+2)%3].Client(t), "/k", "of the two")
	c.Heal()
	waittest.Until(t, "the deaf one is back", func() bool { return fails(t, c.Members[deaf].Client(t), time.Second) == nil })
	has(t, c.Members[deaf].Client(t), "of the two")
}
