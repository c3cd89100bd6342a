package etcdkv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perennial-go/perennial/internal/tlsfile"
)

// transport makes connections secure, each with the certificates as they are
// then, and tells the link what becomes of them.
type transport struct {
	link  *link
	paths tlsfile.Paths
	certs *certificates // nil = no TLS
}

func (t *transport) inner() credentials.TransportCredentials {
	if t.certs == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(t.certs.config())
}

// ClientHandshake, ServerHandshake, Info, Clone and OverrideServerName
// implement credentials.TransportCredentials.
func (t *transport) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	address := raw.RemoteAddr().String()
	if t.certs != nil && t.certs.base.ServerName != "" {
		authority = t.certs.base.ServerName // gRPC's own would ignore it
	}
	conn, info, err := t.inner().ClientHandshake(ctx, authority, raw)
	if err != nil {
		err = t.explain(err)
		t.link.failed(address, "handshake", err)
		return nil, nil, err
	}
	return &firstRead{Conn: conn, done: func(err error) {
		if err == nil {
			t.link.stands()
			return
		}
		t.link.failed(address, "refused", t.explainRefusal(err))
	}}, info, nil
}

func (t *transport) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("etcd client: it serves nobody")
}

func (t *transport) Info() credentials.ProtocolInfo { return t.inner().Info() }

func (t *transport) Clone() credentials.TransportCredentials { return t }

// OverrideServerName is for tests of gRPC's own; the name is the endpoint's.
func (t *transport) OverrideServerName(string) error {
	return errors.New("etcd client: the server's name is that of its endpoint")
}

// firstRead tells whether the server said anything: with TLS 1.3 it refuses a
// client's certificate after the client thinks that the handshake is over.
type firstRead struct {
	net.Conn
	once sync.Once
	done func(error)
}

func (c *firstRead) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.once.Do(func() { c.done(nil) })
	} else if err != nil {
		c.once.Do(func() { c.done(err) })
	}
	return n, err
}

// explain says what a failed handshake means for whoever set it up.
func (t *transport) explain(err error) error {
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%w: want a certificate of etcd's that %s vouches for, found one issued by %q for %q: give the file with etcd's authority (CAFile, --etcd-ca), or correct etcd's certificate",
			err, t.authorities(), issuer(unknown.Cert), subject(unknown.Cert))
	}
	if host, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Errorf("%w: want etcd's certificate to name %q: use an endpoint that it names, or add that name to it", err, host.Host)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return fmt.Errorf("%w: etcd's certificate, or the authority's, is valid from %s to %s: renew it, and check both clocks",
			err, day(invalid.Cert.NotBefore), day(invalid.Cert.NotAfter))
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || closed(err) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("%w: want TLS at that port, found none: is it etcd's port for clients, and does it serve https?", err)
	}
	return t.explainRefusal(err)
}

// explainRefusal is about what the server answers, if anything: it may close
// the connection so soon that its alert is lost.
func (t *transport) explainRefusal(err error) error {
	// The alert's type is crypto/tls's own.
	alert := strings.Contains(err.Error(), "remote error: tls:")
	switch {
	case !alert && !closed(err):
		return err
	case errors.Is(err, net.ErrClosed):
		// This side gave up: mostly because nothing came.
		return fmt.Errorf("etcd said nothing on a connection until it was given up (%w): it may be stopped or overloaded, or refuse %s", err, t.shown())
	case t.certs == nil:
		return fmt.Errorf("etcd, or something on the way to it, closed the connection before it said anything (%w): if that port serves https, use https endpoints", err)
	case t.certs.shows() == nil:
		return fmt.Errorf("%w: etcd wants a client certificate, and none is given: give one (CertFile and KeyFile, --etcd-cert and --etcd-key)", err)
	}
	leaf := t.certs.shows().Leaf
	return fmt.Errorf("%w: etcd refuses the client certificate %s of %q, issued by %q, valid from %s to %s: give one that etcd's --trusted-ca-file vouches for and that is valid now",
		err, t.paths.Cert, subject(leaf), issuer(leaf), day(leaf.NotBefore), day(leaf.NotAfter))
}

func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "reset by peer") || strings.Contains(err.Error(), "broken pipe")
}

// shown is what this side has shown for itself.
func (t *transport) shown() string {
	switch {
	case t.certs == nil:
		return "http: if that port serves https, use https endpoints"
	case t.certs.shows() == nil:
		return "clients without a certificate (CertFile and KeyFile, --etcd-cert and --etcd-key)"
	}
	return "the client certificate " + t.paths.Cert
}

func (t *transport) authorities() string {
	if t.paths.CA != "" {
		return t.paths.CA
	}
	if t.certs.given() {
		return "TLS.RootCAs"
	}
	return "the system's list of authorities"
}

func issuer(c *x509.Certificate) string {
	if c == nil {
		return "?"
	}
	return c.Issuer.String()
}

func subject(c *x509.Certificate) string {
	if c == nil {
		return "?"
	}
	return c.Subject.String()
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }
