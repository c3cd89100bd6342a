package admin

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/internal/certtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a listener that really serves, with one route a role.
type site struct {
	testing.TB
	*Server
	addr net.Addr
}

func plainListen(options net.ListenConfig, _, network, addr string) (net.Listener, error) {
	return options.Listen(context.Background(), network, addr)
}

func serve(tb testing.TB, cfg Config) *site {
	tb.Helper()
	server, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	for path, role := range map[string]Role{"/livez": Probe, "/metrics": Read, "/debug": Operate} {
		if err := server.Handle(path, role, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
				return
			}
			_, _ = io.WriteString(w, CallerOf(r.Context())+" "+RoleOf(r.Context()).String())
		})); err != nil {
			tb.Fatal(err)
		}
	}
	ln, err := server.Listen(plainListen)
	if err != nil {
		tb.Fatal(err)
	}
	srv := server.HTTPServer()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	tb.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			tb.Error(err)
		}
	})
	return &site{TB: tb, Server: server, addr: ln.Addr()}
}

// client calls a site in one way.
type client struct {
	tls    *tls.Config
	header http.Header
	host   string
}

// call returns the status and the body of a GET.
func (s *site) call(c client, path string) (int, string) {
	s.Helper()
	t := &http.Transport{DisableKeepAlives: true, TLSClientConfig: c.tls, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, s.addr.Network(), s.addr.String())
	}}
	defer t.CloseIdleConnections()
	scheme, host := "http://", "127.0.0.1"
	if c.tls != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, scheme+host+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	if c.header != nil {
		req.Header = c.header
	}
	req.Host = c.host
	res, err := (&http.Client{Transport: t, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(body))
}

// answers checks the status of a call.
func (s *site) answers(c client, path string, want int) string {
	s.Helper()
	got, body := s.call(c, path)
	if got != want {
		s.Errorf("%s answers %d, want %d: %s", path, got, want, body)
	}
	return body
}

func (s *site) refused(reason Reason) int {
	return int(testutil.ToFloat64(s.refusals.counted.WithLabelValues(string(reason))))
}

func write(tb testing.TB, path string, data []byte) string {
	tb.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// serverFiles are the listener's own certificate and key.
func serverFiles(tb testing.TB, ca *certtest.Authority) (cert, key string) {
	tb.Helper()
	dir := tb.TempDir()
	certPEM, keyPEM := ca.Issue(tb, "agent")
	return write(tb, filepath.Join(dir, "cert.pem"), certPEM), write(tb, filepath.Join(dir, "key.pem"), keyPEM)
}

func trusting(ca *certtest.Authority) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// holding is trusting with a client certificate, shown whatever the server
// says that it wants.
func holding(tb testing.TB, server, by *certtest.Authority, template *x509.Certificate) *tls.Config {
	tb.Helper()
	cert, key := by.IssueFor(tb, template)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		tb.Fatal(err)
	}
	cfg := trusting(server)
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return cfg
}

// issuer signs tokens.
type issuer struct {
	ec   *ecdsa.PrivateKey
	ed   ed25519.PrivateKey
	keys []jose.JSONWebKey // public
}

func newIssuer(tb testing.TB) *issuer {
	tb.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	public, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return &issuer{ec: ec, ed: ed, keys: []jose.JSONWebKey{
		{Key: &ec.PublicKey, KeyID: "ec", Algorithm: "ES256", Use: "sig"},
		{Key: public, KeyID: "ed"},
		{Key: &ec.PublicKey, KeyID: "enc", Use: "enc"},
	}}
}

func (i *issuer) jwks(tb testing.TB) []byte {
	tb.Helper()
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: i.keys})
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// claims are good ones for a role, changed.
func claims(role any, change map[string]any) map[string]any {
	now := time.Now()
	all := map[string]any{
		"iss": "https://issuer.example", "aud": "agents", "sub": "ops", "perennial_role": role,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	for name, value := range change {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	return all
}

// sign makes a token; header may be nil.
func sign(tb testing.TB, alg jose.SignatureAlgorithm, key any, kid string, header map[jose.HeaderKey]any, claims any) string {
	tb.Helper()
	options := &jose.SignerOptions{ExtraHeaders: header}
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		tb.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		tb.Fatal(err)
	}
	return compact(tb, signer, payload)
}

// compact is payload, signed, as an Authorization header carries it.
func compact(tb testing.TB, signer jose.Signer, payload []byte) string {
	tb.Helper()
	jws, err := signer.Sign(payload)
	if err != nil {
		tb.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func (i *issuer) token(tb testing.TB, claims any) string {
	tb.Helper()
	return sign(tb, jose.ES256, i.ec, "ec", nil, claims)
}

func withToken(token string) client {
	return client{header: http.Header{"Authorization": {"Bearer " + token}}}
}
