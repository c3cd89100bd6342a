package release

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/certtest"
)

// authority signs certificates.
type authority struct{ *certtest.Authority }

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	return &authority{certtest.New(t, name)}
}

// serveTLS serves with a certificate of a. Client certificates are asked for,
// and demanded if clients is set.
func (a *authority) serveTLS(t *testing.T, clients *authority, handler http.Handler) *httptest.Server {
	t.Helper()
	cert, key := a.Issue(t, "server")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = nil
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert}
	if clients != nil {
		server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		server.TLS.ClientCAs.AddCert(clients.Cert)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// private writes a file by a rename, as whatever renews secrets does.
func private(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// seen collects what servers were shown.
type seen struct {
	mu   sync.Mutex
	what []string
}

func (s *seen) add(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.what = append(s.what, what)
}

func (s *seen) take() (what []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what, s.what = s.what, nil
	return what
}

// witness answers with data and notes who asks.
func (s *seen) witness(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names := []string{r.Header.Get("Authorization")}
		if r.TLS != nil {
			for _, cert := range r.TLS.PeerCertificates {
				names = append(names, cert.Subject.CommonName)
			}
		}
		s.add(strings.Join(names, " "))
		if next != nil {
			next.ServeHTTP(w, r)
			return
		}
		_, _ = io.WriteString(w, "data")
	})
}

func TestAuthorizationIsReadAnewForEachRequest(t *testing.T) {
	ca, s := newAuthority(t, "ca"), new(seen)
	server := ca.serveTLS(t, nil, s.witness(nil))
	dir := t.TempDir()
	token := private(t, filepath.Join(dir, "token"), []byte("Bearer one\n"))
	src := httpSource(t, nil, HTTPConfig{URL: server.URL, CAFile: private(t, filepath.Join(dir, "ca"), ca.PEM()), AuthFile: token})
	for _, want := range []string{"Bearer one", "Bearer two"} {
		private(t, token, []byte(want+"\n"))
		if got, _, err := readFrom(t.Context(), src, 0); err != nil || string(got) != "data" {
			t.Fatalf("%q, %v", got, err)
		}
		if got := s.take(); !slices.Equal(got, []string{want}) {
			t.Errorf("the server was shown %q, want %q", got, want)
		}
	}
	if strings.Contains(src.String(), "Bearer") {
		t.Errorf("the source's name is %q", src)
	}
}

func TestAuthorizationNeverLeaksByRedirect(t *testing.T) {
	ca, s := newAuthority(t, "ca"), new(seen)
	other := ca.serveTLS(t, nil, s.witness(nil))
	var target string
	mux := http.NewServeMux()
	mux.HandleFunc("/repo/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "data") })
	own := new(seen)
	server := ca.serveTLS(t, nil, own.witness(mux))
	plain := httptest.NewServer(s.witness(nil))
	t.Cleanup(plain.Close)

	dir := t.TempDir()
	cert, key := ca.Issue(t, "host-a")
	src := httpSource(t, nil, HTTPConfig{
		URL: server.URL + "/repo", CAFile: private(t, filepath.Join(dir, "ca"), ca.PEM()),
		AuthFile: private(t, filepath.Join(dir, "token"), []byte("Bearer secret")),
		CertFile: private(t, filepath.Join(dir, "cert"), cert), KeyFile: private(t, filepath.Join(dir, "key"), key),
	})
	for name, tt := range map[string]struct {
		to    string
		works bool
	}{
		"another port of the host":  {other.URL + "/x", true},
		"another name of the host":  {strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/moved", true},
		"plain http":                {plain.URL + "/x", false},
		"the same server elsewhere": {server.URL + "/moved", true},
	} {
		t.Run(name, func(t *testing.T) {
			target = tt.to
			s.take()
			own.take()
			_, _, err := readFrom(t.Context(), src, 0)
			if (err == nil) != tt.works {
				t.Errorf("error %v", err)
			}
			for _, shown := range s.take() {
				if shown != "" {
					t.Errorf("another server was shown %q", shown)
				}
			}
			const mine = "Bearer secret host-a"
			shown := own.take()
			switch {
			case len(shown) == 0 || shown[0] != mine:
				t.Errorf("the repository's server was shown %q, want %q", shown, mine)
			case strings.Contains(tt.to, "localhost") && shown[1] != "":
				t.Errorf("the server was shown %q under another name", shown[1])
			}
		})
	}
}

func TestCertificatesAreReadAnewForEachConnection(t *testing.T) {
	ca, s := newAuthority(t, "ca"), new(seen)
	server := ca.serveTLS(t, ca, s.witness(nil))
	dir := t.TempDir()
	stranger := newAuthority(t, "stranger")
	caFile, certFile, keyFile := filepath.Join(dir, "ca"), filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	install := func(signer *authority, name string) {
		cert, key := signer.Issue(t, name)
		private(t, certFile, cert)
		private(t, keyFile, key)
	}
	private(t, caFile, stranger.PEM())
	install(ca, "host-1")
	src := httpSource(t, nil, HTTPConfig{URL: server.URL, CAFile: caFile, CertFile: certFile, KeyFile: keyFile, Attempts: 1})
	if _, _, err := readFrom(t.Context(), src, 0); err == nil || !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("server of an authority that is not in the file: %v", err)
	}
	private(t, caFile, append(stranger.PEM(), ca.PEM()...))
	for _, name := range []string{"host-1", "host-2"} {
		install(ca, name)
		if got, _, err := readFrom(t.Context(), src, 0); err != nil || string(got) != "data" {
			t.Errorf("as %s: %q, %v", name, got, err)
		}
		if got := s.take(); !slices.Equal(got, []string{" " + name}) {
			t.Errorf("the server saw %q, want %q", got, name)
		}
	}
	install(stranger, "host-3")
	if _, _, err := readFrom(t.Context(), src, 0); err == nil {
		t.Error("a client certificate of another authority was taken")
	}
}

func TestCertificateAndKeyThatAreReplacedOneAfterTheOther(t *testing.T) {
	ca := newAuthority(t, "ca")
	var mend func()
	server := ca.serveTLS(t, ca, new(seen).witness(nil))
	dir := t.TempDir()
	cert, key := ca.Issue(t, "host")
	certFile, keyFile := private(t, filepath.Join(dir, "cert"), cert), private(t, filepath.Join(dir, "key"), key)
	src := httpSource(t, nil, HTTPConfig{URL: server.URL, CAFile: private(t, filepath.Join(dir, "ca"), ca.PEM()), CertFile: certFile, KeyFile: keyFile})
	nextCert, nextKey := ca.Issue(t, "host")
	private(t, certFile, nextCert)
	timer := time.AfterFunc(150*time.Millisecond, func() { private(t, keyFile, nextKey) })
	mend = func() { timer.Stop() }
	defer mend()
	if got, _, err := readFrom(t.Context(), src, 0); err != nil || string(got) != "data" {
		t.Errorf("%q, %v: want another attempt with the pair", got, err)
	}
}

func TestAccessFilesThatProtectNothingAreRefused(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, "ca")
	cert, key := ca.Issue(t, "host")
	file := func(name string, data []byte, mode fs.FileMode) string {
		path := private(t, filepath.Join(dir, name), data)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const https = "https://repo.example.com/x"
	token := file("token", []byte("Bearer hunter2"), 0o600)
	certFile, keyFile := file("cert", cert, 0o644), file("key", key, 0o600)
	for name, tt := range map[string]struct {
		cfg  HTTPConfig
		says string
	}{
		"authorization that others can read": {HTTPConfig{URL: https, AuthFile: file("wide", []byte("Bearer hunter2"), 0o640)}, "chmod 600"},
		"authorization over http":            {HTTPConfig{URL: "http://repo.example.com/x", AuthFile: token}, "--repo-auth-file) are for https"},
		"authority over http":                {HTTPConfig{URL: "http://repo.example.com/x", CAFile: certFile}, "(--repo-ca, "},
		"two authorizations":                 {HTTPConfig{URL: "https://joe:hunter2@repo.example.com/x", AuthFile: token}, "(--repo-auth-file) is given as well: give one of the two"},
		"whole header line":                  {HTTPConfig{URL: https, AuthFile: file("line", []byte("Authorization: Bearer hunter2"), 0o600)}, "value of the header"},
		"two lines":                          {HTTPConfig{URL: https, AuthFile: file("two", []byte("Bearer hunter2\nX-Other: y"), 0o600)}, "one line"},
		"token without a scheme":             {HTTPConfig{URL: https, AuthFile: file("bare", []byte("hunter2"), 0o600)}, "Bearer TOKEN"},
		"empty file":                         {HTTPConfig{URL: https, AuthFile: file("empty", nil, 0o600)}, "Bearer TOKEN"},
		"no file":                            {HTTPConfig{URL: https, AuthFile: filepath.Join(dir, "none")}, "none"},
		"huge file":                          {HTTPConfig{URL: https, AuthFile: file("huge", make([]byte, 1<<20), 0o600)}, "larger than"},
		"key that others can read":           {HTTPConfig{URL: https, CertFile: certFile, KeyFile: file("widekey", key, 0o644)}, "chmod 600"},
		"certificate without its key":        {HTTPConfig{URL: https, CertFile: certFile}, "(--repo-cert, --repo-key) belong together"},
		"key without its certificate":        {HTTPConfig{URL: https, KeyFile: keyFile}, "(--repo-cert, --repo-key) belong together"},
		"key for a CA":                       {HTTPConfig{URL: https, CAFile: keyFile}, "no certificate"},
		"two sets of authorities":            {HTTPConfig{URL: https, CAFile: certFile, TLS: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}}, "one of the two"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewHTTP(tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %v, want one that says %q and no secret", err, tt.says)
			}
		})
	}
	for _, location := range []string{"/srv/repo", "file:///srv/repo"} {
		if _, err := OpenSource(SourceConfig{Location: location, HTTP: HTTPConfig{AuthFile: token}}); err == nil || !strings.Contains(err.Error(), "--repo-auth-file") {
			t.Errorf("%s with an authorization file: %v", location, err)
		}
	}
}
