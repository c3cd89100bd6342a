package etcdkv_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// addUser makes a user who may use the keys of this package's tests.
func addUser(t *testing.T, admin *clientv3.Client, name, password string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	defer cancel()
	_, err := admin.RoleAdd(ctx, name)
	if errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
		err = nil
	}
	for key, end := range map[string]string{"/one": "", presence: "", "/many/": clientv3.GetPrefixRangeEnd("/many/")} {
		if err == nil {
			_, err = admin.RoleGrantPermission(ctx, name, key, end, clientv3.PermissionType(clientv3.PermReadWrite))
		}
	}
	if err == nil {
		_, err = admin.UserAdd(ctx, name, password)
	}
	if err == nil {
		_, err = admin.UserGrantRole(ctx, name, name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tryPut is one attempt.
func tryPut(t *testing.T, c *clientv3.Client, key string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := c.Put(ctx, key, "x")
	return err
}

// TestExpiredTokensCostNothing: a JWT ends however much it is used, a simple
// token when it is not; writes, watches and renewals go on.
func TestExpiredTokensCostNothing(t *testing.T) {
	for name, jwt := range map[string]bool{"simple": false, "JWT": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := etcdtest.StartWith(t, etcdtest.Options{Auth: &etcdtest.Auth{TokenTTL: time.Second, JWT: jwt}})
			addUser(t, server.Client(t), "a1", "secret")
			login := func() (*clientv3.Client, func() float64) {
				metrics := etcdkv.NewMetrics()
				c := dial(t, etcdkv.ClientConfig{Endpoints: []string{server.URL()}, Username: "a1", Password: "secret", Metrics: metrics})
				return c, func() float64 { return figure(t, metrics, "logins_total", "result", "ok") }
			}
			watcher, _ := login()
			o := watch(t, watcher)
			// One that opens no streams, which would fetch it a new token.
			writer, logins := login()
			waittest.Until(t, "the token of a write has expired", func() bool {
				put(t, writer, "/one", "x")
				if logins() > 1 {
					return true
				}
				if !jwt { // use prolongs it
					idle(t, 2*time.Second)
				}
				return false
			})
			put(t, writer, "/one", "last")
			waittest.Until(t, "the watch goes on", o.has(map[string]string{"/one": "last"}))
		})
	}
}

// TestRenewalsMissNoBeatWhenTheirTokenEnds: etcd looks at the token of each,
// and ends their stream; a lease could be lost before another token is asked
// for.
func TestRenewalsMissNoBeatWhenTheirTokenEnds(t *testing.T) {
	t.Parallel()
	server := etcdtest.StartWith(t, etcdtest.Options{Auth: &etcdtest.Auth{TokenTTL: time.Second, JWT: true}})
	addUser(t, server.Client(t), "a1", "secret")
	metrics := etcdkv.NewMetrics()
	c := dial(t, etcdkv.ClientConfig{Endpoints: []string{server.URL()}, Username: "a1", Password: "secret", Metrics: metrics})
	s, leases := presenceSession(t, etcdkv.SessionConfig{Client: c, TTL: 30 * time.Second, Interval: 100 * time.Millisecond})
	background(t, s.Run)
	waittest.Next(t, "lease", leases)
	worst := time.Duration(0)
	waittest.Until(t, "three more logins", func() bool {
		at, _, _ := s.LastBeat()
		worst = max(worst, time.Since(at))
		return figure(t, metrics, "logins_total", "result", "ok") > 3
	})
	if worst > 3*time.Second {
		t.Errorf("renewals paused for %v when the token ended", worst)
	}
}

// holds tells whether the view has the key.
func (o *observer) holds(key string) func() bool {
	return func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		_, ok := o.view.Values[key]
		return ok
	}
}

// idle lets time pass for etcd, whose clock is not the test's.
func idle(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// TestAClientLogsInOnceForAllItsStreams: a login is what costs etcd most, and
// a fleet that reconnects makes one for each stream otherwise.
func TestAClientLogsInOnceForAllItsStreams(t *testing.T) {
	t.Parallel()
	server := etcdtest.StartWith(t, etcdtest.Options{Auth: &etcdtest.Auth{}})
	addUser(t, server.Client(t), "a1", "secret")
	metrics := etcdkv.NewMetrics()
	c := dial(t, etcdkv.ClientConfig{Endpoints: []string{server.URL()}, Username: "a1", Password: "secret", Metrics: metrics})
	o := watch(t, c)
	s, leases := presenceSession(t, etcdkv.SessionConfig{Client: c, TTL: 30 * time.Second, Interval: 50 * time.Millisecond})
	background(t, s.Run)
	waittest.Next(t, "lease", leases)
	put(t, c, "/one", "1")
	waittest.Until(t, "the watch works", o.holds("/one"))
	beatsSince(t, s, time.Now())
	if n := figure(t, metrics, "logins_total"); n != 1 {
		t.Errorf("%v logins for a watch, a lease and a write, want 1", n)
	}
}

// TestPasswordAndUserChangeWhileTheClientLives: an operator rotates a
// password, takes a user away and gives it back.
func TestPasswordAndUserChangeWhileTheClientLives(t *testing.T) {
	t.Parallel()
	server := etcdtest.StartWith(t, etcdtest.Options{Auth: &etcdtest.Auth{}})
	admin := server.Client(t)
	addUser(t, admin, "a1", "first secret")
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		if err := atomicfile.Write(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first secret\n")
	metrics := etcdkv.NewMetrics()
	c := dial(t, etcdkv.ClientConfig{Endpoints: []string{server.URL()}, Username: "a1", PasswordFile: file, Metrics: metrics})
	put(t, c, "/one", "1")

	ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	defer cancel()
	if _, err := admin.UserChangePassword(ctx, "a1", "second secret"); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		err := tryPut(t, c, "/one")
		if !errors.Is(err, rpctypes.ErrAuthFailed) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "first") {
			t.Fatalf("want a refusal that names the file and not what it holds, got %v", err)
		}
	}
	if n := figure(t, metrics, "logins_total", "result", "refused"); n != 1 {
		t.Errorf("5 calls logged in %v times with a password that was refused, want 1", n)
	}
	write("second secret\n")
	put(t, c, "/one", "with the second")

	if _, err := admin.UserDelete(ctx, "a1"); err != nil {
		t.Fatal(err)
	}
	if err := tryPut(t, c, "/one"); !errors.Is(err, rpctypes.ErrAuthFailed) || !strings.Contains(err.Error(), "a1") {
		t.Errorf("a user that was taken away: want a refusal that names it, got %v", err)
	}
	addUser(t, admin, "a1", "second secret")
	waittest.Nil(t, "the user works again", func() error { return tryPut(t, c, "/one") })
	if err := tryPut(t, c, "/others/one"); !errors.Is(err, rpctypes.ErrPermissionDenied) || !strings.Contains(err.Error(), "a1") || !strings.Contains(err.Error(), "/others/one") {
		t.Errorf("another's key: want a refusal that names user and key, got %v", err)
	}
}

// TestAuthenticationIsTurnedOffAndOnWhileTheClientLives in both directions,
// also for a client that began while it was off: so a fleet that runs without
// gets it.
func TestAuthenticationIsTurnedOffAndOnWhileTheClientLives(t *testing.T) {
	t.Parallel()
	server := etcdtest.StartWith(t, etcdtest.Options{Auth: &etcdtest.Auth{}})
	admin := server.Client(t)
	addUser(t, admin, "a1", "secret")
	begin := func() (*clientv3.Client, *observer) {
		c := dial(t, etcdkv.ClientConfig{Endpoints: []string{server.URL()}, Username: "a1", Password: "secret"})
		return c, watch(t, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	defer cancel()
	before, seenBefore := begin()
	put(t, before, "/one", "on")
	if _, err := admin.AuthDisable(ctx); err != nil {
		t.Fatal(err)
	}
	meanwhile, seenMeanwhile := begin()
	check := func(when string) {
		t.Helper()
		for who, c := range map[string]*clientv3.Client{"before": before, "meanwhile": meanwhile} {
			key := "/many/" + when + "/" + who
			waittest.Nil(t, "a write succeeds", func() error { return tryPut(t, c, key) })
			waittest.Until(t, "the watch goes on", seenBefore.holds(key))
			waittest.Until(t, "the other watch goes on", seenMeanwhile.holds(key))
		}
	}
	check("off")
	if _, err := admin.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
	check("on-again")
}
