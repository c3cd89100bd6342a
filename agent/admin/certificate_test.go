package admin

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/certtest"
)

// mutual is a listener for client certificates.
func mutual(t *testing.T, server, clients *certtest.Authority, allow ...Grant) (cfg Config, caFile string) {
	cert, key := serverFiles(t, server)
	caFile = write(t, filepath.Join(t.TempDir(), "clients.pem"), clients.PEM())
	return Config{Address: "0.0.0.0:0", CertFile: cert, KeyFile: key, ClientCAFile: caFile, Allow: allow}, caFile
}

func forClients(change func(*x509.Certificate)) *x509.Certificate {
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: "ops"}, DNSNames: []string{"Ops.Example.com"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	change(c)
	return c
}

func TestCertificateGivesTheRolesOfItsNames(t *testing.T) {
	server, clients := certtest.New(t, "server"), certtest.New(t, "clients")
	cfg, _ := mutual(t, server, clients, Grant{"dns:ops.example.com", Operate}, Grant{"uri:spiffe://prod/scraper", Read}, Grant{"cn:kubelet", Probe})
	s := serve(t, cfg)
	spiffe := &url.URL{Scheme: "spiffe", Host: "prod", Path: "/scraper"}
	for name, c := range map[string]struct {
		of   *x509.Certificate
		want [3]int
	}{
		"DNS name":    {forClients(func(*x509.Certificate) {}), [3]int{200, 200, 200}},
		"URI":         {&x509.Certificate{URIs: []*url.URL{spiffe}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, [3]int{200, 200, 403}},
		"common name": {forClients(func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "kubelet", nil }), [3]int{200, 403, 403}},
		"common name that was granted as a DNS name": {forClients(func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "ops.example.com", nil }), [3]int{403, 403, 403}},
		"pattern in the certificate":                 {forClients(func(c *x509.Certificate) { c.DNSNames = []string{"*.example.com"} }), [3]int{403, 403, 403}},
	} {
		for n, path := range []string{"/livez", "/metrics", "/debug"} {
			if got, body := s.call(client{tls: holding(t, server, clients, c.of)}, path); got != c.want[n] {
				t.Errorf("%s: %s answers %d, want %d: %s", name, path, got, c.want[n], body)
			}
		}
	}
}

func TestCertificateThatDoesNotCountIsRefusedAndCounted(t *testing.T) {
	server, clients := certtest.New(t, "server"), certtest.New(t, "clients")
	cfg, _ := mutual(t, server, clients, Grant{"dns:ops.example.com", Operate})
	s := serve(t, cfg)
	for name, held := range map[string]*tls.Config{
		"expired":              holding(t, server, clients, forClients(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })),
		"not valid yet":        holding(t, server, clients, forClients(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })),
		"for servers":          holding(t, server, clients, forClients(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })),
		"of another authority": holding(t, server, server, forClients(func(*x509.Certificate) {})),
	} {
		if got, body := s.call(client{tls: held}, "/livez"); got != 401 {
			t.Errorf("%s: %d %s", name, got, body)
		}
	}
	if got := s.refused(ReasonCertificate); got != 4 {
		t.Errorf("%d refusals were counted, want 4", got)
	}
	s.answers(client{tls: trusting(server)}, "/livez", 401)
	if got := s.refused(ReasonCredentials); got != 1 {
		t.Errorf("%d calls without a certificate were counted, want 1", got)
	}
	// A plain request, and a version of TLS that is out of date.
	// The listener's address is no name of its certificate.
	old := trusting(server)
	old.ServerName = "127.0.0.1"
	if conn, err := tls.Dial("tcp", s.addr.String(), old); err != nil {
		t.Errorf("a client whose version is not out of date: %v", err)
	} else {
		_ = conn.Close()
	}
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 //nolint:gosec // it is to be refused
	if conn, err := tls.Dial("tcp", s.addr.String(), old); err == nil {
		t.Error("TLS 1.1 was agreed on")
		_ = conn.Close()
	}
	waitFor(t, "the failed handshake is counted", func() bool { return s.refused("handshake") == 1 })
	h2 := trusting(server)
	h2.NextProtos, h2.ServerName = []string{"h2"}, "127.0.0.1"
	if conn, err := tls.Dial("tcp", s.addr.String(), h2); err == nil {
		t.Error("HTTP/2 was agreed on")
		_ = conn.Close()
	}
}

// TestAuthorityThatIsTakenAwayEndsWhatItVouchedForOnOpenConnections: a client
// that keeps its connection must not keep its role.
func TestAuthorityThatIsTakenAwayEndsWhatItVouchedForOnOpenConnections(t *testing.T) {
	server, clients, next := certtest.New(t, "server"), certtest.New(t, "clients"), certtest.New(t, "next")
	cfg, caFile := mutual(t, server, clients, Grant{"dns:ops.example.com", Read})
	s := serve(t, cfg)
	transport := &http.Transport{TLSClientConfig: holding(t, server, clients, forClients(func(*x509.Certificate) {})), MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	get := func() int {
		t.Helper()
		_, port := hostPort(t, s.addr)
		res, err := (&http.Client{Transport: transport}).Get("https://127.0.0.1:" + port + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	if got := get(); got != 200 {
		t.Fatalf("answers %d", got)
	}
	write(t, caFile, next.PEM())
	if got := get(); got != 401 {
		t.Errorf("after its authority was taken away the client gets %d", got)
	}
	s.answers(client{tls: holding(t, server, next, forClients(func(*x509.Certificate) {}))}, "/metrics", 200)
	// The listener's own certificate is replaced without a restart, too.
	cert, key := certtest.New(t, "other server").Issue(t, "agent")
	write(t, cfg.CertFile, cert)
	write(t, cfg.KeyFile, key)
	replaced := trusting(server)
	replaced.ServerName = "127.0.0.1"
	if conn, err := tls.Dial("tcp", s.addr.String(), replaced); err == nil {
		t.Error("the listener shows the certificate that was replaced")
		_ = conn.Close()
	}
}

// TestTokenIsNotMadeGoodByACertificate: a proxy with a certificate that passes
// on a token must not lend its own role to it.
func TestTokenIsNotMadeGoodByACertificate(t *testing.T) {
	server, clients, i := certtest.New(t, "server"), certtest.New(t, "clients"), newIssuer(t)
	cfg, _ := mutual(t, server, clients, Grant{"dns:ops.example.com", Operate})
	tokens, _ := i.config(t)
	cfg.Tokens = tokens.Tokens
	s := serve(t, cfg)
	held := holding(t, server, clients, forClients(func(*x509.Certificate) {}))
	s.answers(client{tls: held}, "/debug", 200)
	c := withToken(i.token(t, claims("read", nil)))
	c.tls = held
	s.answers(c, "/metrics", 200)
	s.answers(c, "/debug", 403)
	c.header = http.Header{"Authorization": {"Bearer x"}}
	s.answers(c, "/livez", 401)
}
