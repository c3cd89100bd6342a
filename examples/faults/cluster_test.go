package faults

import (
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

func TestAMinuteWithoutAMajorityIsToldAndSurvived(t *testing.T) {
	t.Parallel()
	c := etcdtest.StartCluster(t, 3, etcdtest.Options{})
	b := newBench(t, c.ClientConfig(), place{ttl: 10 * time.Second})
	leader := c.Leader()
	f := b.breaks("majority lost for 60 s", func() { c.Kill(leader, (leader+2)%3) })
	f.says("registration", "etcd has not answered")
	lasts(t, time.Until(f.began.Add(time.Minute)))
	f.mends(verdict{within: 10 * time.Second, sameLease: true}, func() { c.Restart(leader, (leader+2)%3) })
}

// TestClusterThatLosesMembersKeepsItsAgents: one after the other, in a cluster
// that three processes are.
func TestClusterThatLosesMembersKeepsItsAgents(t *testing.T) {
	t.Parallel()
	c := etcdtest.StartCluster(t, 3, etcdtest.Options{})
	b := newBench(t, c.ClientConfig(), place{})

	t.Run("leader killed", func(t *testing.T) {
		leader := c.Leader()
		f := b.breaks("leader killed", c.Members[leader].Kill)
		f.arrives()
		f.mendsItself(verdict{within: 5 * time.Second, sameLease: true})
		c.Restart(leader)
	})
	t.Run("leader asleep", func(t *testing.T) {
		leader := c.Leader()
		f := b.breaks("leader asleep", c.Members[leader].Pause)
		f.arrives()
		f.mends(verdict{within: 10 * time.Second, sameLease: true}, c.Members[leader].Resume)
	})
	t.Run("each member restarted in turn", func(t *testing.T) {
		f := b.breaks("each member restarted in turn", func() {})
		for i := range c.Members {
			c.Members[i].Stop()
			f.arrives()
			c.Restart(i)
		}
		f.mendsItself(verdict{within: 5 * time.Second, sameLease: true})
	})
	t.Run("one-way partition between members", func(t *testing.T) {
		leader := c.Leader()
		deaf := (leader + 1) % 3
		f := b.breaks("one-way partition of a member", func() {
			for i := range c.Members {
				if i != deaf {
					c.CutWay(i, deaf)
				}
			}
		})
		f.arrives()
		f.mends(verdict{within: 10 * time.Second, sameLease: true}, c.Heal)
	})
	t.Run("leader partitioned", func(t *testing.T) {
		leader := c.Leader()
		f := b.breaks("leader cut off from the others", func() { c.Isolate(leader) })
		waittest.Until(t, "another leads", func() bool { return c.Leader() != leader })
		f.arrives()
		f.mends(verdict{within: 10 * time.Second, sameLease: true}, c.Heal)
	})
	t.Run("all killed and back", func(t *testing.T) {
		f := b.breaks("all killed and back", func() { c.Kill() })
		f.says("heartbeat_latency_seconds", "+Inf")
		f.mends(verdict{within: 10 * time.Second, sameLease: true}, func() { c.Restart() })
	})
}
