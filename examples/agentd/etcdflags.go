package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

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
	f.StringVar(&e.cert, "etcd-cert", "", "PEM `file` of the client certificate; this and the other files are read anew for every connection")
	f.StringVar(&e.key, "etcd-key", "", "PEM `file` of the client certificate's key, mode 0600")
	f.StringVar(&e.user, "etcd-user", "", "`name` of the etcd user")
	f.StringVar(&e.passwordFile, "etcd-password-file", "", "`file` with the etcd user's password, mode 0600")
}

// addTimeout is for commands that ask once and do not stay.
func (e *etcdFlags) addTimeout(cmd *cobra.Command) {
	e.add(cmd)
	e.timeoutFlag(cmd)
}

func (e *etcdFlags) timeoutFlag(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&e.timeout, "timeout", 10*time.Second, "how long to wait for etcd")
}

// config checks the flags; the files that they name are read where the
// connection is made.
func (e *etcdFlags) config() (agent.EtcdConfig, error) {
	for _, endpoint := range e.endpoints {
		if !strings.Contains(endpoint, ":") || strings.ContainsAny(endpoint, " \t") {
			return agent.EtcdConfig{}, usagef("--etcd: want a URL such as http://127.0.0.1:2379, found %q", endpoint)
		}
	}
	switch {
	case (e.cert == "") != (e.key == ""):
		return agent.EtcdConfig{}, usagef("--etcd-cert and --etcd-key belong together: give both or none")
	case e.timeout < 0:
		return agent.EtcdConfig{}, usagef("--timeout: want a positive duration, found %v", e.timeout)
	case (e.user == "") != (e.passwordFile == ""):
		return agent.EtcdConfig{}, usagef("--etcd-user and --etcd-password-file belong together: give both, or none where a client certificate names the user")
	}
	return agent.EtcdConfig{
		Endpoints: e.endpoints, Root: e.root,
		CAFile: e.ca, CertFile: e.cert, KeyFile: e.key,
		Username: e.user, PasswordFile: e.passwordFile,
	}, nil
}

// client opens a client of etcd's own.
func (e *etcdFlags) client() (*clientv3.Client, error) {
	cfg, err := e.config()
	if err != nil {
		return nil, err
	}
	return cfg.Dial()
}

// directory opens the registry.
func (e *etcdFlags) directory() (*agent.Directory, error) {
	cfg, err := e.config()
	if err != nil {
		return nil, err
	}
	return agent.OpenDirectory(cfg)
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
