// Package etcdserver runs a single-node etcd inside a process, for trying
// things out and for tests. It is no way to run a fleet: one node has no
// quorum to survive on, and it listens without TLS.
package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Config says where the server keeps its data and where it listens.
type Config struct {
	// Dir holds the data; it is made (mode 0700) if it does not exist.
	Dir string
	// Listen is the clients' address as host:port, the host an IP literal or
	// "localhost". Port 0 takes a free one; see Server.URL. Default
	// 127.0.0.1:2379.
	Listen string
	// Fast trades durability for speed: elections within 100 ms and no
	// fsync. A power cut then loses data, a killed process does not.
	Fast bool
	// Logger receives etcd's warnings and errors while it serves; nil
	// discards them. Failures to start are returned, not logged.
	Logger *slog.Logger
}

// Server is a running etcd.
type Server struct {
	etcd  *embed.Etcd
	log   *slogCore
	close sync.Once
}

// Start runs an etcd and returns once it serves. If ctx ends first, or etcd
// refuses, nothing is left running.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	ec, err := embedConfig(cfg)
	if err != nil {
		return nil, err
	}
	if err := probeData(cfg.Dir); err != nil {
		return nil, err
	}
	core := newSlogCore(cfg.Logger)
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(core))
	e, err := embed.StartEtcd(ec)
	if err != nil {
		return nil, fmt.Errorf("etcd in %s on %s: %w", cfg.Dir, ec.ListenClientUrls[0].Host, err)
	}
	s := &Server{etcd: e, log: core}
	select {
	case <-e.Server.ReadyNotify():
		core.quiet.Store(false)
		return s, nil
	case err = <-e.Err():
	case <-e.Server.StopNotify():
		err = errors.New("the server stopped while it started")
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.Close()
	return nil, fmt.Errorf("etcd in %s on %s: %w", cfg.Dir, ec.ListenClientUrls[0].Host, err)
}

// URL is the address for clients, with the port that was really taken.
func (s *Server) URL() string {
	return "http://" + s.etcd.Clients[0].Addr().String()
}

// Wait blocks until ctx ends (nil) or the server fails (its error). It does
// not close the server.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.etcd.Err():
		if err != nil {
			return err
		}
	case <-s.etcd.Server.StopNotify():
	}
	return errors.New("etcd stopped by itself")
}

// Close stops the server and waits until it has; the data stays. It may be
// called more than once.
func (s *Server) Close() {
	s.close.Do(func() {
		s.log.quiet.Store(true) // the listeners' ends are no errors now
		s.etcd.Close()
	})
}

// probeData refuses data that another process uses: etcd itself would wait
// for it without end and without a word.
func probeData(dir string) error {
	path := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(path); err != nil {
		return nil //nolint:nilerr // nothing there, or etcd says what is wrong with it
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if errors.Is(err, berrors.ErrTimeout) {
		return fmt.Errorf("etcd: data directory %s is used by another process: stop that one, or choose another directory", dir)
	}
	if err != nil {
		return fmt.Errorf("etcd: data directory %s: %w", dir, err)
	}
	return db.Close()
}

func embedConfig(cfg Config) (*embed.Config, error) {
	if cfg.Dir == "" {
		return nil, errors.New("etcd: Config.Dir is empty: want the directory for its data")
	}
	listen := cfg.Listen
	if listen == "" {
		listen = "127.0.0.1:2379"
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("etcd: listen address %q: want host:port, such as 127.0.0.1:2379: %w", listen, err)
	}
	if host != "localhost" && net.ParseIP(host) == nil {
		return nil, fmt.Errorf("etcd: listen address %q: want an IP address or localhost as the host, such as 127.0.0.1:2379", listen)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcd: data directory: %w", err)
	}
	ec := embed.NewConfig()
	ec.Dir = cfg.Dir
	ec.ListenClientUrls = []url.URL{{Scheme: "http", Host: listen}}
	ec.AdvertiseClientUrls = ec.ListenClientUrls
	// A single node has no peers: with no peer listener no second port can
	// be taken already.
	ec.ListenPeerUrls = nil
	// Off by default in etcd: a steady writer would fill the quota.
	ec.AutoCompactionMode = embed.CompactorModePeriodic
	ec.AutoCompactionRetention = "1h"
	if cfg.Fast {
		ec.TickMs, ec.ElectionMs = 10, 100
		ec.UnsafeNoFsync = true
	}
	return ec, nil
}
