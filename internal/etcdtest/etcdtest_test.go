package etcdtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdtest"
)

// TestDataAndAddressSurviveRestart would fail if tests that restart etcd
// talked to an empty or unreachable server afterwards.
func TestDataAndAddressSurviveRestart(t *testing.T) {
	s := etcdtest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	url := s.URL()
	if _, err := s.Client(t).Put(ctx, "/k", "v"); err != nil {
		t.Fatal(err)
	}
	for name, again := range map[string]func(){
		"killed":  s.Restart,
		"stopped": func() { s.Stop(); s.Restart() },
	} {
		began := time.Now()
		again()
		t.Logf("%s and started again in %s", name, time.Since(began))
		if s.URL() != url {
			t.Fatalf("%s: address moved from %s to %s", name, url, s.URL())
		}
		r, err := s.Client(t).Get(ctx, "/k")
		if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "v" {
			t.Fatalf("%s: want the value written before, got %v, %v", name, r, err)
		}
	}
	s.Wipe()
	if r, err := s.Client(t).Get(ctx, "/k"); err != nil || len(r.Kvs) != 0 {
		t.Fatalf("wiped: want no key, got %v, %v", r, err)
	}
}

// TestProxyCutsAndHeals would fail if a test's partition were none.
func TestProxyCutsAndHeals(t *testing.T) {
	s := etcdtest.Start(t)
	p := s.Proxy(t)
	c := p.Client(t)
	reaches := func(limit time.Duration) bool {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := c.Get(ctx, "/k")
		return err == nil
	}
	if !reaches(30 * time.Second) {
		t.Fatal("not reachable through a whole proxy")
	}
	for name, cut := range map[string]func(){"cut": p.Cut, "frozen": p.Freeze} {
		cut()
		if reaches(300 * time.Millisecond) {
			t.Errorf("%s: reachable all the same", name)
		}
		p.Heal()
		if !reaches(30 * time.Second) {
			t.Errorf("%s: not reachable after Heal", name)
		}
	}
}
