package agent

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestAgentThatCannotTellItsHomeIsNotRefusedByItself: a document that changes
// the TTL would end a whole fleet.
func TestAgentThatCannotTellItsHomeIsNotRefusedByItself(t *testing.T) {
	t.Parallel()
	p := present(t, etcdtest.Start(t).URL())
	if p.registry.home != "" {
		t.Fatalf("its home is %q, want none to be known", p.registry.home)
	}
	old := p.session.Lease()
	if err := p.retime(heartbeat{TTL: 30 * time.Second, Every: 100 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the lease is exchanged", func() bool { return p.session.Counters().Exchanged == 1 })
	if now := p.registry.leased(); now == old || now != p.session.Lease() {
		t.Errorf("registered on lease %x, which was %x; the session keeps %x", now, old, p.session.Lease())
	}
}

// TestKeysThatAreMendedDuringAnExchangeOfLeasesStayOnTheNewOne: they would go
// with the former one, which is revoked a moment later.
func TestKeysThatAreMendedDuringAnExchangeOfLeasesStayOnTheNewOne(t *testing.T) {
	t.Parallel()
	p := present(t, etcdtest.Start(t).URL())
	key := p.registry.keys.registry(p.cfg.ID)
	granted, err := p.client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	// The session has had the keys moved, and does not know it yet.
	if err := p.registry.register(t.Context(), int64(granted.ID), p.Info()); err != nil {
		t.Fatal(err)
	}
	for name, mend := range map[string]func() error{
		"mended":     func() error { _, err := p.mendKeys(t.Context(), []string{key}); return err },
		"fenced":     func() error { return p.fenced(t.Context()) },
		"taken over": func() error { return p.inherit(t.Context()) },
	} {
		if err := mend(); err != nil {
			t.Fatal(name, err)
		}
		r, err := p.client.Get(t.Context(), key)
		if err != nil || len(r.Kvs) != 1 || clientv3.LeaseID(r.Kvs[0].Lease) != granted.ID {
			t.Errorf("%s: %+v (%v), want it on lease %x", name, r, err, granted.ID)
		}
	}
}
