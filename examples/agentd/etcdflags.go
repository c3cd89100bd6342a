package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/perennial-go/perennial/agent"
)

// etcdFlags say where etcd is and how to talk to it.
type etcdFlags struct {
	endpoints          []string
	root               string
	ca, cert, key      string
	user, passwordFile string
	timeout            time.Duration
}

func (e *etcdFlags) add(cmd *cobra.Command) {
	e.addOptional(cmd)
	require(cmd, "etcd", "http://127.0.0.1:2379")
}

// addOptional is for commands that may do without etcd.
func (e *etcdFlags) addOptional(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&e.endpoints, "etcd", nil, "`URL` of etcd; several members separated by commas")
	f.StringVar(&e.root, "etcd-root", "/agents/", "`prefix` of all keys")
	f.StringVar(&e.ca, "etcd-ca", "", "PEM `file` of the authorities that signed etcd's certificate; default the system's")
	f.StringVar(&e.cert, "etcd-cert", "", "PEM `file` of the client certificate, read anew for every connection")
	f.StringVar(&e.key, "etcd-key", "", "PEM `file` of the client certificate's key")
	f.StringVar(&e.user, "etcd-user", "", "`name` of the etcd user")
	f.StringVar(&e.passwordFile, "etcd-password-file", "", "`file` with the etcd user's password")
}

// addTimeout is for commands that ask once and do not stay.
func (e *etcdFlags) addTimeout(cmd *cobra.Command) {
	e.add(cmd)
	e.timeoutFlag(cmd)
}

func (e *etcdFlags) timeoutFlag(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&e.timeout, "timeout", 10*time.Second, "how long to wait for etcd")
}

// config reads the files that the flags name.
func (e *etcdFlags) config() (agent.EtcdConfig, error) {
	cfg := agent.EtcdConfig{Endpoints: e.endpoints, Root: e.root, Username: e.user}
	for _, endpoint := range e.endpoints {
		if !strings.Contains(endpoint, ":") || strings.ContainsAny(endpoint, " \t") {
			return cfg, usagef("--etcd: want a URL such as http://127.0.0.1:2379, found %q", endpoint)
		}
	}
	if e.passwordFile != "" {
		password, err := os.ReadFile(e.passwordFile)
		if err != nil {
			return cfg, fmt.Errorf("--etcd-password-file: %w", err)
		}
		cfg.Password = strings.TrimRight(string(password), "\r\n")
	}
	if !e.secure() {
		return cfg, nil
	}
	var err error
	cfg.TLS, err = e.tls()
	return cfg, err
}

// secure tells whether any of the flags speaks of TLS.
func (e *etcdFlags) secure() bool {
	plain := func(endpoint string) bool { return strings.HasPrefix(endpoint, "http://") }
	return e.ca+e.cert+e.key != "" || slices.ContainsFunc(e.endpoints, func(s string) bool { return !plain(s) })
}

func (e *etcdFlags) tls() (*tls.Config, error) {
	if (e.cert == "") != (e.key == "") {
		return nil, usagef("--etcd-cert and --etcd-key belong together: give both or none")
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.ca != "" {
		pem, err := os.ReadFile(e.ca)
		if err != nil {
			return nil, fmt.Errorf("--etcd-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--etcd-ca: want certificates in PEM in %s, found none", e.ca)
		}
	}
	if e.cert != "" {
		if _, err := tls.LoadX509KeyPair(e.cert, e.key); err != nil {
			return nil, fmt.Errorf("--etcd-cert and --etcd-key: %w", err)
		}
		// Read at every handshake, so that a renewed certificate is used
		// without a restart.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(e.cert, e.key)
			return &pair, err
		}
	}
	return cfg, nil
}

// client opens a client of etcd's own.
func (e *etcdFlags) client() (*clientv3.Client, error) {
	cfg, err := e.config()
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{
		Endpoints: cfg.Endpoints, TLS: cfg.TLS,
		Username: cfg.Username, Password: cfg.Password,
		DialTimeout: e.timeout, Logger: zap.NewNop(),
	})
}

// ask runs f with the timeout and says in words that etcd did not answer.
func (e *etcdFlags) ask(ctx context.Context, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	err := f(limited)
	if err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("want an answer from etcd at %s within %v, found none: check that it runs and that --etcd is its address: %w",
			strings.Join(e.endpoints, ","), e.timeout, err)
	}
	return err
}
