package agent

import (
	"crypto/tls"
	"log/slog"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/tlsfile"
)

// EtcdConfig says how to reach etcd. Only Endpoints is required.
type EtcdConfig struct {
	// Endpoints are URLs of the members, such as https://etcd1:2379: all with
	// https or all with http. The connection to a member is direct, never
	// through a proxy, and one is kept to each.
	Endpoints []string
	// TLS is used for https endpoints; nil means TLS 1.2 or later and the
	// system's authorities.
	TLS *tls.Config
	// CAFile holds the PEM certificates of the authorities that may vouch for
	// etcd, in place of the system's.
	CAFile string
	// CertFile and KeyFile hold the client certificate, with its chain, and
	// its private key, in PEM form; both or none. Others than its owner must
	// not be able to read the key: mode 0600. Where etcd runs with
	// --client-cert-auth, the certificate's common name is the etcd user.
	//
	// The three files may be replaced at any time: each new connection uses
	// them as they are then. Where they are not in order, those read before
	// stay in use, which the log and the metrics tell. A connection that
	// stands is left alone.
	CertFile, KeyFile string
	// Username and Password log in where etcd asks for it.
	Username, Password string
	// PasswordFile holds the password in one line, in place of Password, with
	// mode 0600. It is read again for each login.
	PasswordFile string
	// Root is the prefix of every key, with or without slashes around it;
	// default "/agents/". Its parts are as ids are: letters, digits, dots,
	// underscores and hyphens.
	Root string
}

// Dial returns a client of etcd with the settings that agents use. It reads
// the files and connects to nothing yet. The caller closes the client.
func (c EtcdConfig) Dial() (*clientv3.Client, error) { return c.dial(nil, nil) }

func (c EtcdConfig) dial(m *etcdkv.Metrics, log *slog.Logger) (*clientv3.Client, error) {
	return etcdkv.Dial(c.client(m, log))
}

func (c EtcdConfig) client(m *etcdkv.Metrics, log *slog.Logger) etcdkv.ClientConfig {
	return etcdkv.ClientConfig{
		Endpoints: slices.Clone(c.Endpoints), TLS: c.TLS,
		Files:    tlsfile.Paths{CA: c.CAFile, Cert: c.CertFile, Key: c.KeyFile},
		Username: c.Username, Password: c.Password, PasswordFile: c.PasswordFile,
		Metrics: m, Logger: log,
	}
}
