package etcdkv

import (
	"crypto/tls"
	"errors"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
)

// Settings of the connection. The server refuses clients that ping more
// often than every 5 s.
const (
	dialTimeout  = 5 * time.Second // one attempt
	pingEvery    = 10 * time.Second
	pingTimeout  = 5 * time.Second
	reconnectMin = 200 * time.Millisecond
	reconnectMax = 5 * time.Second
)

// ClientConfig says which etcd to talk to.
type ClientConfig struct {
	// Endpoints are URLs, or host:port, of one or more members. Required.
	Endpoints []string
	// TLS is used for https endpoints; rotate certificates through
	// GetClientCertificate.
	TLS *tls.Config
	// Username and Password authenticate where etcd asks for it.
	Username, Password string
}

// Dial builds a client. It does not wait for a connection: whether etcd can
// be reached shows in the first call. The caller closes the client.
func Dial(cfg ClientConfig) (*clientv3.Client, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("etcd: no endpoints given: want at least one, such as http://127.0.0.1:2379")
	}
	options := []grpc.DialOption{
		// gRPC's own cap of 120 s lets leases expire long after etcd is back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{
				BaseDelay:  reconnectMin,
				Multiplier: 1.6,
				Jitter:     0.5,
				MaxDelay:   reconnectMax,
			},
			MinConnectTimeout: dialTimeout,
		}),
	}
	if cfg.Username != "" {
		l := newLogin(cfg.Username, cfg.Password)
		options = append(options,
			grpc.WithChainUnaryInterceptor(l.unary),
			grpc.WithChainStreamInterceptor(l.stream))
	}
	return clientv3.New(clientv3.Config{
		Endpoints:            slices.Clone(cfg.Endpoints),
		TLS:                  cfg.TLS,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    pingEvery,
		DialKeepAliveTimeout: pingTimeout,
		// Pings on an idle connection count as abuse with the server's
		// default enforcement policy.
		PermitWithoutStream: false,
		Logger:              zap.NewNop(),
		DialOptions:         options,
	})
}
