package etcdkv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"

	"github.com/perennial-go/perennial/internal/tlsfile"
)

// Settings of the connection. Pings come where nothing is read for pingEvery:
// that is more than 10 s, jittered by a fifth, so that the answers to heartbeats
// of no more than 10 s take their place. With pingTimeout it must fit into a TTL
// of 30 s. The server refuses clients that ping more often than every 5 s.
const (
	dialTimeout  = 5 * time.Second // one attempt, with its handshake
	tcpTimeout   = 3 * time.Second // of that, until the connection stands
	pingEvery    = 13 * time.Second
	pingTimeout  = 5 * time.Second
	reconnectMin = 200 * time.Millisecond
	reconnectMax = 5 * time.Second
)

// ClientConfig says which etcd to talk to.
type ClientConfig struct {
	// Endpoints are URLs, or host:port, of one or more members: all with
	// https or all without. The client keeps a connection to each. Required.
	Endpoints []string
	// TLS is used for https endpoints; nil means TLS 1.2 or later with the
	// system's authorities.
	TLS *tls.Config
	// Files take the place of what TLS says of the same, and are read again
	// for each connection.
	Files tlsfile.Paths
	// Username and Password authenticate where etcd asks for it.
	Username, Password string
	// PasswordFile holds the password in place of Password, mode 0600. It is
	// read again for each login.
	PasswordFile string
	// Metrics counts what the client does; nil counts for nobody.
	Metrics *Metrics
	// Logger receives what is wrong with files and certificates; nil discards.
	Logger *slog.Logger

	reconnect reconnect
}

// reconnect bounds the waits between attempts to connect.
type reconnect struct{ min, max time.Duration }

// Dial builds a client. It reads the files, but does not wait for a
// connection: whether etcd can be reached shows in the first call. A call
// whose ctx has no deadline gets one of 30 s, and one that ends because there
// was no connection says why there is none. The client talks to etcd directly,
// never through a proxy of the environment. The caller closes the client.
func Dial(cfg ClientConfig) (*clientv3.Client, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	if cfg.reconnect == (reconnect{}) {
		cfg.reconnect = reconnect{reconnectMin, reconnectMax}
	}
	secure, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	link := newLink(cfg.Metrics)
	creds := &transport{link: link, paths: cfg.Files}
	if secure {
		if creds.certs, err = openCertificates(cfg); err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
		link.user = creds.certs.user()
	}
	options := []grpc.DialOption{
		// gRPC's own cap of 120 s lets leases expire long after etcd is back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{
				BaseDelay:  cfg.reconnect.min,
				Multiplier: 1.6,
				Jitter:     0.5,
				MaxDelay:   cfg.reconnect.max,
			},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithContextDialer(link.dial),
		grpc.WithTransportCredentials(creds),
		grpc.WithStatsHandler(link),
	}
	if cfg.Username != "" {
		l, err := newLogin(cfg)
		if err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
		link.user = cfg.Username
		options = append(options,
			grpc.WithChainUnaryInterceptor(l.unary),
			grpc.WithChainStreamInterceptor(l.stream))
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints:            slices.Clone(cfg.Endpoints),
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    pingEvery,
		DialKeepAliveTimeout: pingTimeout,
		// Pings on an idle connection count as abuse with the server's
		// default enforcement policy.
		PermitWithoutStream: false,
		Logger:              zap.NewNop(),
		DialOptions:         options,
	})
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	attach(c, link, creds.certs)
	return c, nil
}

// attach has c explain its errors, and follow its files until it is closed.
func attach(c *clientv3.Client, link *link, certs *certificates) {
	c.KV = &explainedKV{KV: c.KV, link: link}
	lease := &explainedLease{Lease: c.Lease, link: link}
	if certs != nil && certs.files != nil {
		ctx, cancel := context.WithCancel(c.Ctx())
		lease.certs, lease.stop = certs, cancel
		lease.background.Go(func() { certs.follow(ctx) })
	}
	c.Lease = lease
}

// check tells whether the connections are to be secured.
func (cfg *ClientConfig) check() (secure bool, err error) {
	if len(cfg.Endpoints) == 0 {
		return false, errors.New("no endpoints given: want at least one, such as http://127.0.0.1:2379")
	}
	var plain []string
	for _, e := range cfg.Endpoints {
		scheme, _, ok := strings.Cut(e, "://")
		switch {
		case strings.HasPrefix(e, "unixs:"), ok && scheme == "https":
			secure = true
		case ok && scheme == "http":
			plain = append(plain, e)
		case cfg.TLS != nil || cfg.Files.Given():
			secure = true
		}
	}
	wanted := secure || cfg.TLS != nil || cfg.Files.Given()
	switch {
	case wanted && len(plain) > 0:
		return false, fmt.Errorf("endpoint %s is not secured, but certificates or other endpoints are for TLS: want https for all endpoints, or http for all and no certificates", plain[0])
	case cfg.Files.CA != "" && cfg.TLS != nil && cfg.TLS.RootCAs != nil:
		return false, errors.New("CAFile and TLS.RootCAs are both given: give one of the two")
	case cfg.Files.Cert != "" && cfg.TLS != nil && (len(cfg.TLS.Certificates) > 0 || cfg.TLS.GetClientCertificate != nil):
		return false, errors.New("CertFile and a certificate in TLS are both given: give one of the two")
	case cfg.Username == "" && (cfg.Password != "" || cfg.PasswordFile != ""):
		return false, errors.New("a password without a user: give Username as well")
	case cfg.Password != "" && cfg.PasswordFile != "":
		return false, errors.New("Password and PasswordFile are both given: give one of the two")
	}
	return secure, nil
}
