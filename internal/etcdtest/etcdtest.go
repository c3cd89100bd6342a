// Package etcdtest gives a test real etcd processes of its own, single or as a
// cluster, which it can stop, kill, restart, put to sleep and cut off.
//
// The server is examples/internal/testetcd, built once per checkout into the
// system's temporary directory; the first test to run pays for the build.
package etcdtest

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/porttest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// startTimeout bounds one start of the process; a fast one takes 0.1 s.
const startTimeout = 60 * time.Second

// Server is an etcd process. Its methods fail the test that started it; they
// must not be called concurrently.
type Server struct {
	tb      testing.TB
	binary  string
	dir     string
	addr    string // host:port; fixed by the first start
	options Options
	flags   []string
	secrets *secrets
	member  *member // of a cluster; nil = single

	process *process
	log     *waittest.Log
}

// Start runs an etcd on a free port with empty data until the test ends.
func Start(tb testing.TB) *Server {
	tb.Helper()
	return StartWith(tb, Options{})
}

// StartWith is Start with options.
func StartWith(tb testing.TB, o Options) *Server {
	tb.Helper()
	s := newServer(tb, o)
	s.start()
	if o.Auth != nil {
		enableAuth(tb, s.anonymous(), o.Auth)
	}
	return s
}

func newServer(tb testing.TB, o Options) *Server {
	tb.Helper()
	dir := tb.TempDir()
	s := &Server{
		tb: tb, binary: build(tb), dir: filepath.Join(dir, "etcd"), addr: porttest.Address(tb),
		options: o, log: &waittest.Log{},
	}
	s.flags, s.secrets = o.flags(tb, dir)
	tb.Cleanup(func() {
		s.Kill()
		if tb.Failed() && s.log.String() != "" {
			tb.Logf("etcd %s said:\n%s", s.addr, s.log.String())
		}
	})
	return s
}

// URL is the address for clients; it stays the same over restarts.
func (s *Server) URL() string { return s.scheme() + s.addr }

func (s *Server) scheme() string {
	if s.options.Authority == nil {
		return "http://"
	}
	return "https://"
}

// Client returns a client of the server that is closed when the test ends. It
// may do everything, and has the certificate that is asked for.
func (s *Server) Client(tb testing.TB) *clientv3.Client {
	tb.Helper()
	return newClient(tb, s.ClientConfig())
}

// ClientConfig is how Client reaches the server.
func (s *Server) ClientConfig() etcdkv.ClientConfig {
	cfg := s.anonymous()
	if s.options.Auth != nil {
		cfg.Username, cfg.Password = rootUser, s.options.Auth.password()
	}
	return cfg
}

// anonymous is a client without user and password.
func (s *Server) anonymous() etcdkv.ClientConfig {
	cfg := etcdkv.ClientConfig{Endpoints: []string{s.URL()}}
	if s.options.Authority != nil {
		cfg.TLS = &tls.Config{RootCAs: s.secrets.trusted, Certificates: s.secrets.client, MinVersion: tls.VersionTLS12}
	}
	return cfg
}

func newClient(tb testing.TB, cfg etcdkv.ClientConfig) *clientv3.Client {
	tb.Helper()
	c, err := etcdkv.Dial(cfg)
	if err != nil {
		tb.Fatalf("etcd client: %v", err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// enableAuth makes root the user who may do everything.
func enableAuth(tb testing.TB, cfg etcdkv.ClientConfig, auth *Auth) {
	tb.Helper()
	c, err := etcdkv.Dial(cfg)
	if err != nil {
		tb.Fatalf("etcd client: %v", err)
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	_, err = c.UserAdd(ctx, rootUser, auth.password())
	if err == nil {
		_, err = c.UserGrantRole(ctx, rootUser, "root")
	}
	if err == nil {
		_, err = c.AuthEnable(ctx)
	}
	if err != nil {
		tb.Fatalf("etcd: turn on authentication: %v", err)
	}
}

// Reissue gives the server another certificate, signed by an authority that
// may be another one, for connections that begin from now on.
func (s *Server) Reissue(by *certtest.Authority) {
	s.tb.Helper()
	if s.options.Authority == nil {
		s.tb.Fatal("etcdtest: Reissue on a server without TLS")
	}
	s.secrets.issue(s.tb, by)
}

// Stop ends the process in an orderly way and waits for its exit. Data and
// address are kept for Restart.
func (s *Server) Stop() {
	s.tb.Helper()
	if s.process == nil {
		return
	}
	_ = s.process.stdin.Close()
	select {
	case <-s.process.exited:
		s.process = nil
	case <-time.After(startTimeout):
		s.Kill()
		s.tb.Fatalf("etcd %s did not stop within %s and was killed", s.addr, startTimeout)
	}
}

// Kill ends the process at once, as kill -9 does, and waits for its exit. One
// that is paused ends, too.
func (s *Server) Kill() {
	s.process.kill()
	s.process = nil
}

// Restart kills the process if it runs and starts it again on the same data
// and address. A member of a cluster waits for a quorum: see Cluster.Restart.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	s.start()
}

// Wipe kills the process, deletes its data and starts an empty server on the
// same address: revisions begin again, and nobody is asked for a password.
// Not for a member of a cluster: see Cluster.Wipe.
func (s *Server) Wipe() {
	s.tb.Helper()
	s.Kill()
	s.deleteData()
	s.start()
}

func (s *Server) deleteData() {
	s.tb.Helper()
	if err := os.RemoveAll(s.dir); err != nil {
		s.tb.Fatalf("etcd data: %v", err)
	}
}

func (s *Server) start() {
	s.tb.Helper()
	if err := s.launch(s.tb.Context()); err != nil {
		s.tb.Fatalf("etcd did not start: %v\n%s", err, s.log.String())
	}
}

// launch retries for a while: another process may hold the fixed port for a
// moment, and an executable that was just written may be busy (ETXTBSY).
func (s *Server) launch(ctx context.Context) error {
	var retry backoff.Backoff
	deadline := time.Now().Add(startTimeout)
	for {
		p, addr, err := s.run(time.Until(deadline))
		if err == nil {
			s.process, s.addr = p, addr
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		_ = retry.Wait(ctx) // the loop sees ctx's end
	}
}
