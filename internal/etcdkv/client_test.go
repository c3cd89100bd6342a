package etcdkv_test

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

func dial(t *testing.T, cfg etcdkv.ClientConfig) *clientv3.Client {
	t.Helper()
	c, err := etcdkv.Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestDialNeedsEndpoints(t *testing.T) {
	if _, err := etcdkv.Dial(etcdkv.ClientConfig{}); err == nil {
		t.Error("accepted")
	}
}

// TestPasswordNeedsNoEtcdToStart: an agent that logs in must be able to start
// without etcd, and go on after etcd has forgotten its token.
func TestPasswordNeedsNoEtcdToStart(t *testing.T) {
	server := etcdtest.Start(t)
	admin := server.Client(t)
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	defer cancel()
	login := etcdkv.ClientConfig{Endpoints: []string{server.URL()}, Username: "root", Password: "secret"}

	// One that opens no streams, which would fetch it a new token.
	plain := dial(t, login)
	put(t, plain, "/one", "while etcd asks for no password")
	for _, step := range []func() error{
		func() error { _, err := admin.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	put(t, plain, "/one", "once etcd asks for one")
	server.Stop()
	began := time.Now()
	c := dial(t, login)
	if waited := time.Since(began); waited > time.Second {
		t.Errorf("Dial waited %s for an etcd that is away", waited)
	}
	o := watch(t, c)
	s, leases := presenceSession(t, etcdkv.SessionConfig{Client: c, TTL: 30 * time.Second, Interval: 50 * time.Millisecond})
	background(t, s.Run)
	server.Restart()
	lease := waittest.Next(t, "lease", leases)
	put(t, c, "/one", "1")
	waittest.Until(t, "first value", o.has(map[string]string{"/one": "1"}))

	server.Restart() // its tokens are lost
	restarted := time.Now()
	put(t, plain, "/other", "with the lost token")
	put(t, c, "/one", "2")
	waittest.Until(t, "second value", o.has(map[string]string{"/one": "2"}))
	beatsSince(t, s, restarted)
	if s.Lease() != lease {
		t.Errorf("lease %x became %x", lease, s.Lease())
	}
	for name, cfg := range map[string]etcdkv.ClientConfig{
		"wrong password": {Endpoints: []string{server.URL()}, Username: "root", Password: "guess"},
		"none":           {Endpoints: []string{server.URL()}},
	} {
		_, err := dial(t, cfg).Get(ctx, "/one")
		if err == nil || !strings.Contains(err.Error(), "user") {
			t.Errorf("%s: want a refusal that names the user, got %v", name, err)
		}
	}
}

func TestIDsThatEscapeTheirKeyAreRefused(t *testing.T) {
	for _, id := range []string{"a", "A1", "host-1.example.com", "0_x", strings.Repeat("a", 128)} {
		if err := etcdkv.ValidID(id); err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{"", ".", "..", "-a", "a/b", "a b", "a\n", "ü", "a\x00", strings.Repeat("a", 129)} {
		if etcdkv.ValidID(id) == nil {
			t.Errorf("%q: accepted", id)
		}
	}
	for root, want := range map[string]string{"": "/agents/", "/": "/agents/", "x": "/x/", "/x": "/x/", "/x/y/": "/x/y/"} {
		if got := etcdkv.CleanRoot(root); got != want {
			t.Errorf("root %q: want %q, got %q", root, want, got)
		}
	}
}
