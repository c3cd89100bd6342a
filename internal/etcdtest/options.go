package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/certtest"
)

// Options say how a server differs from the plain one that Start runs.
type Options struct {
	// Authority signs the certificate that clients are shown; nil serves
	// without TLS. See Server.Reissue.
	Authority *certtest.Authority
	// ClientAuthority signs the certificates that clients must show; nil asks
	// for none. It needs Authority.
	ClientAuthority *certtest.Authority
	// Auth asks clients for user and password; nil lets everybody do
	// everything.
	Auth *Auth
	// QuotaBytes is the size of the data from which on etcd refuses writes
	// with NOSPACE; 0 = etcd's default of 2 GB.
	QuotaBytes int64
	// Flags are further flags of etcd, such as --max-request-bytes=4096.
	Flags []string
}

// Auth is authentication with the user root, who may do everything.
type Auth struct {
	// Password is root's; default "secret of root".
	Password string
	// TokenTTL is how long a token lives, in whole seconds; default 5 min. Use
	// prolongs a simple token, but not a JWT.
	TokenTTL time.Duration
	// JWT signs tokens, instead of remembering them.
	JWT bool
}

const rootUser = "root"

func (a *Auth) password() string {
	if a.Password == "" {
		return "secret of root"
	}
	return a.Password
}

// secrets are the files that a server's flags name.
type secrets struct {
	dir     string
	trusted *x509.CertPool // authorities of all certificates of the server
	client  []tls.Certificate
}

func (s *secrets) path(name string) string { return filepath.Join(s.dir, name) }

func (s *secrets) write(tb testing.TB, name string, data []byte) string {
	tb.Helper()
	path := s.path(name)
	// Renamed into place: a server that reads it sees one or the other.
	err := os.WriteFile(path+".new", data, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

func (s *secrets) issue(tb testing.TB, by *certtest.Authority) {
	tb.Helper()
	cert, key := by.Issue(tb, "etcd")
	s.write(tb, "server.crt", cert)
	s.write(tb, "server.key", key)
	s.trusted.AddCert(by.Cert)
}

// flags writes the secrets that o needs into dir and returns etcd's flags.
func (o Options) flags(tb testing.TB, dir string) ([]string, *secrets) {
	tb.Helper()
	s := &secrets{dir: dir, trusted: x509.NewCertPool()}
	var flags []string
	add := func(name, format string, args ...any) {
		flags = append(flags, "--"+name+"="+fmt.Sprintf(format, args...))
	}
	if o.QuotaBytes != 0 {
		add("quota-backend-bytes", "%d", o.QuotaBytes)
	}
	if o.Authority != nil {
		s.issue(tb, o.Authority)
		add("cert-file", "%s", s.path("server.crt"))
		add("key-file", "%s", s.path("server.key"))
	}
	if o.ClientAuthority != nil {
		if o.Authority == nil {
			tb.Fatal("etcdtest: Options.ClientAuthority without Authority: certificates of clients need TLS")
		}
		add("client-cert-auth", "true")
		add("trusted-ca-file", "%s", s.write(tb, "clients.crt", o.ClientAuthority.PEM()))
		s.client = []tls.Certificate{clientCertificate(tb, o.ClientAuthority)}
		// etcd talks to itself with its own certificate.
		self, key := o.ClientAuthority.Issue(tb, "etcd")
		add("client-cert-file", "%s", s.write(tb, "self.crt", self))
		add("client-key-file", "%s", s.write(tb, "self.key", key))
	}
	if o.Auth != nil {
		add("bcrypt-cost", "4") // its least: logins are not what is tested
	}
	if o.Auth != nil && o.Auth.JWT {
		public, private := jwtKeys(tb, s)
		add("auth-token", "jwt,pub-key=%s,priv-key=%s,sign-method=ES256,ttl=%s", public, private, o.Auth.ttl())
	} else if o.Auth != nil {
		add("auth-token-ttl", "%d", int(o.Auth.ttl().Seconds()))
	}
	return append(flags, o.Flags...), s
}

func (a *Auth) ttl() time.Duration {
	if a.TokenTTL == 0 {
		return 5 * time.Minute
	}
	return a.TokenTTL
}

func clientCertificate(tb testing.TB, by *certtest.Authority) tls.Certificate {
	tb.Helper()
	cert, err := tls.X509KeyPair(by.Issue(tb, "etcdtest"))
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func jwtKeys(tb testing.TB, s *secrets) (public, private string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	priv, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		tb.Fatal(err)
	}
	return s.write(tb, "jwt.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})),
		s.write(tb, "jwt.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: priv}))
}
