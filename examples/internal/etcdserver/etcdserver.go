// Package etcdserver runs an etcd inside a process, for trying things out and
// for tests. It is no way to run a fleet: unless told otherwise it is a single
// node, which has no quorum to survive on, and listens without TLS.
package etcdserver

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
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
	// Peer makes the server a member of a cluster; nil = a single node.
	Peer *Peer
	// Flags are etcd's own, such as --quota-backend-bytes=8388608, for what
	// has no field here. Those that name URLs other than --initial-cluster
	// have no effect.
	Flags []string
	// Logger receives etcd's warnings and errors while it serves; nil
	// discards them. Failures to start are returned, not logged.
	Logger *slog.Logger
}

// Peer is what a member of a cluster needs; its name and the cluster's other
// members are given by Config.Flags.
type Peer struct {
	// Listen is the other members' address as host:port; port 0 takes a free
	// one.
	Listen string
	// Advertise is the URL by which the others know this member, as in
	// --initial-cluster.
	Advertise string
	// Listening, if not nil, is called with the address that was really taken
	// once the others can connect, which is before the server serves: that
	// takes a quorum.
	Listening func(address string)
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
	if cfg.Peer != nil && cfg.Peer.Listening != nil {
		cfg.Peer.Listening(e.Peers[0].Addr().String())
	}
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
	return s.etcd.Config().ListenClientUrls[0].Scheme + "://" + s.etcd.Clients[0].Addr().String()
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
	// Off by default in etcd: a steady writer would fill the quota.
	ec.AutoCompactionMode = embed.CompactorModePeriodic
	ec.AutoCompactionRetention = "1h"
	if cfg.Fast {
		ec.TickMs, ec.ElectionMs = 10, 100
		ec.UnsafeNoFsync = true
	}
	if err := parse(ec, cfg.Flags); err != nil {
		return nil, err
	}
	ec.Dir = cfg.Dir
	ec.ListenClientUrls = []url.URL{{Scheme: scheme(ec.ClientTLSInfo.Empty()), Host: listen}}
	ec.AdvertiseClientUrls = ec.ListenClientUrls
	// A single node has no peers: with no peer listener no second port can
	// be taken already.
	ec.ListenPeerUrls = nil
	if cfg.Peer != nil {
		advertise, err := url.Parse(cfg.Peer.Advertise)
		if err != nil {
			return nil, fmt.Errorf("etcd: URL for peers: %w", err)
		}
		ec.AdvertisePeerUrls = []url.URL{*advertise}
		ec.ListenPeerUrls = []url.URL{{Scheme: scheme(ec.PeerTLSInfo.Empty()), Host: cfg.Peer.Listen}}
	}
	return ec, nil
}

// parse reads etcd's own flags into ec.
func parse(ec *embed.Config, args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	ec.AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("etcd: Config.Flags: %w", err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("etcd: Config.Flags: want flags only, found %q", flags.Arg(0))
	}
	return nil
}

func scheme(plain bool) string {
	if plain {
		return "http"
	}
	return "https"
}
