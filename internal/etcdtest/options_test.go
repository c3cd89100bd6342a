package etcdtest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// patient is a context for what must succeed.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	t.Cleanup(cancel)
	return ctx
}

func put(t *testing.T, c *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := c.Put(patient(t), key, value); err != nil {
		t.Fatal(err)
	}
}

// fails tells whether a read through c fails within a moment.
func fails(t *testing.T, c *clientv3.Client, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := c.Get(ctx, "/k")
	return err
}

func TestServerAsksForCertificatesPasswordsAndSpace(t *testing.T) {
	t.Parallel()
	authority, clients := certtest.New(t, "servers"), certtest.New(t, "clients")
	for name, auth := range map[string]*etcdtest.Auth{
		"simple tokens": {TokenTTL: time.Second},
		"JWT":           {TokenTTL: time.Second, JWT: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := etcdtest.StartWith(t, etcdtest.Options{
				Authority: authority, ClientAuthority: clients, Auth: auth,
				QuotaBytes: 4 << 20, Flags: []string{"--max-request-bytes=65536"},
			})
			put(t, s.Client(t), "/k", "v")
			if _, err := s.Client(t).Put(patient(t), "/k", strings.Repeat("x", 70000)); !errors.Is(err, rpctypes.ErrRequestTooLarge) {
				t.Errorf("the flag has no effect: %v", err)
			}
			refused := func(what string, change func(*etcdkv.ClientConfig)) {
				cfg := s.ClientConfig()
				cfg.TLS = cfg.TLS.Clone()
				change(&cfg)
				c, err := etcdkv.Dial(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				if err := fails(t, c, time.Second); err == nil {
					t.Errorf("a client %s is let in", what)
				}
			}
			refused("with a wrong password", func(c *etcdkv.ClientConfig) { c.Password = "wrong" })
			refused("without a user", func(c *etcdkv.ClientConfig) { c.Username, c.Password = "", "" })
			refused("without a certificate", func(c *etcdkv.ClientConfig) { c.TLS.Certificates = nil })
			refused("that trusts another authority", func(c *etcdkv.ClientConfig) { c.TLS.RootCAs = nil })

			s.Reissue(certtest.New(t, "another"))
			put(t, s.Client(t), "/k", "v")
			c := s.Client(t)
			waittest.Until(t, "the quota is used up", func() bool {
				_, err := c.Put(patient(t), "/fill", strings.Repeat("x", 60000))
				return errors.Is(err, rpctypes.ErrNoSpace)
			})
		})
	}
}

// TestPausedServerStandsStill: a host that hangs would otherwise be one that
// answers.
func TestPausedServerStandsStill(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	c := s.Client(t)
	put(t, c, "/k", "v")
	s.Pause()
	if err := fails(t, c, 300*time.Millisecond); err == nil {
		t.Error("it answers")
	}
	s.Resume()
	put(t, c, "/k", "v")
	s.Pause() // and is killed at the end of the test all the same
}

func TestBytesAreDelayedAndStoppedOneWay(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	p := s.Proxy(t)
	c, direct := p.Client(t), s.Client(t)
	put(t, c, "/k", "v")
	for _, way := range []etcdtest.Way{etcdtest.ToServer, etcdtest.ToClient} {
		p.Delay(way, 300*time.Millisecond)
		began := time.Now()
		put(t, c, "/k", "v")
		if took := time.Since(began); took < 300*time.Millisecond {
			t.Errorf("way %d: answered after %v", way, took)
		}
		p.Heal()

		p.FreezeWay(way)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, err := c.Put(ctx, "/arrives", "v"); err == nil {
			t.Errorf("way %d: frozen, and an answer came", way)
		}
		cancel()
		r, err := direct.Get(patient(t), "/arrives")
		if err != nil {
			t.Fatal(err)
		}
		if arrived := r.Count == 1; arrived != (way == etcdtest.ToClient) {
			t.Errorf("way %d frozen: the request arrived: %v", way, arrived)
		}
		p.Heal()
		put(t, c, "/k", "v")
		if _, err := direct.Delete(patient(t), "/arrives"); err != nil {
			t.Fatal(err)
		}
	}
}
