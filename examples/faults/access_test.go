package faults

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/etcdtest"
)

// TestExpiredTokenIsReplacedUnseen: a token expires again and again while the
// agent works, then etcd forgets them all, and at last somebody changes who may
// do what, which makes every token old.
func TestExpiredTokenIsReplacedUnseen(t *testing.T) {
	t.Parallel()
	for name, jwt := range map[string]bool{"auth token expired (simple)": false, "auth token expired (JWT)": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const ttl = time.Second
			s := etcdtest.StartWith(t, etcdtest.Options{Auth: &etcdtest.Auth{TokenTTL: ttl, JWT: jwt}})
			p := s.Proxy(t)
			root := s.Client(t)
			allow(t, root)
			b := newBench(t, s.ClientConfig(), place{etcd: agent.EtcdConfig{
				Endpoints: []string{p.URL()}, Username: "agent", Password: "secret of agent",
			}})
			f := b.breaks(name, func() {})
			lasts(t, 3*ttl)
			f.mends(verdict{within: 10 * time.Second, sameLease: true}, func() {
				// Streams that stand are not asked for a token: new ones are.
				p.Cut()
				p.Heal()
				if _, err := root.RoleAdd(b.ctx(), "another"); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// lasts is how long a fault takes that is a length of time.
func lasts(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// allow makes a user who may do what agents do.
func allow(t *testing.T, root *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	_, err := root.RoleAdd(ctx, "agent")
	if err == nil {
		_, err = root.RoleGrantPermission(ctx, "agent", "/agents/", clientv3.GetPrefixRangeEnd("/agents/"), clientv3.PermissionType(clientv3.PermReadWrite))
	}
	if err == nil {
		_, err = root.UserAdd(ctx, "agent", "secret of agent")
	}
	if err == nil {
		_, err = root.UserGrantRole(ctx, "agent", "agent")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCertificatesAreRotatedUnderTheAgent: its own is replaced before it
// expires, and etcd's is one day another authority's. Connections that begin
// then are made with what lies on the disk.
func TestCertificatesAreRotatedUnderTheAgent(t *testing.T) {
	t.Parallel()
	servers, clients := certtest.New(t, "servers"), certtest.New(t, "clients")
	s := etcdtest.StartWith(t, etcdtest.Options{Authority: servers, ClientAuthority: clients})
	p := s.Proxy(t)
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		err := os.WriteFile(path+".new", data, 0o600)
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	end := time.Now().Add(6 * time.Second)
	cert, key := clients.IssueUntil(t, "a1", end)
	b := newBench(t, s.ClientConfig(), place{etcd: agent.EtcdConfig{
		Endpoints: []string{p.URL()},
		CAFile:    file("ca.crt", servers.PEM()), CertFile: file("a1.crt", cert), KeyFile: file("a1.key", key),
	}})
	f := b.breaks("certificate rotated", func() {
		another := certtest.New(t, "servers of tomorrow")
		cert, key := clients.Issue(t, "a1")
		file("ca.crt", another.PEM())
		file("a1.key", key)
		file("a1.crt", cert)
		s.Reissue(another)
	})
	lasts(t, time.Until(end.Add(time.Second)))
	f.mends(verdict{within: 10 * time.Second, sameLease: true}, func() {
		p.Cut()
		p.Heal()
	})
}
