package etcdkv_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/certtest"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/tlsfile"
	"github.com/perennial-go/perennial/internal/waittest"
)

// files is a client's certificate with what belongs to it, on disk.
type files struct {
	t *testing.T
	tlsfile.Paths
}

func newFiles(t *testing.T, servers, clients *certtest.Authority) files {
	t.Helper()
	dir := t.TempDir()
	f := files{t, tlsfile.Paths{
		CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"),
	}}
	f.write(f.CA, servers.PEM())
	f.issue(clients, "client", time.Now().Add(time.Hour))
	return f
}

func (f files) write(path string, data []byte) {
	f.t.Helper()
	if err := atomicfile.Write(path, data, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f files) issue(by *certtest.Authority, name string, end time.Time) {
	f.t.Helper()
	cert, key := by.IssueUntil(f.t, name, end)
	f.write(f.Cert, cert)
	f.write(f.Key, key)
}

// figure is a metric's value, summed over its labels; labels are pairs that
// must be there.
func figure(t *testing.T, m *etcdkv.Metrics, name string, labels ...string) float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(m); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != "perennial_etcd_"+name {
			continue
		}
		for _, metric := range family.GetMetric() {
			found := map[string]string{}
			for _, l := range metric.GetLabel() {
				found[l.GetName()] = l.GetValue()
			}
			matches := true
			for i := 0; i < len(labels); i += 2 {
				matches = matches && found[labels[i]] == labels[i+1]
			}
			if matches {
				sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// TestEveryCertificateIsReplacedWhileTheClientLives: the server's, its
// authority and the client's; files that are broken in between cost nothing.
func TestEveryCertificateIsReplacedWhileTheClientLives(t *testing.T) {
	t.Parallel()
	servers, clients := certtest.New(t, "servers"), certtest.New(t, "clients")
	server := etcdtest.StartWith(t, etcdtest.Options{Authority: servers, ClientAuthority: clients})
	f := newFiles(t, servers, clients)
	metrics, log := etcdkv.NewMetrics(), &waittest.Log{}
	c := dial(t, etcdkv.ClientConfig{
		Endpoints: []string{server.URL()}, Files: f.Paths, Metrics: metrics,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	put(t, c, "/one", "first")

	f.write(f.Key, []byte("half a ke"))
	server.Restart() // a new connection
	put(t, c, "/one", "with a broken key on disk")
	if ok := figure(t, metrics, "certificate_files_ok"); ok != 0 || !strings.Contains(log.String(), f.Key) {
		t.Errorf("certificate_files_ok is %v, and the log says\n%s", ok, log.String())
	}

	// The new authority first, then the certificate that it signs.
	another := certtest.New(t, "others")
	f.write(f.CA, append(servers.PEM(), another.PEM()...))
	end := time.Now().Add(30 * time.Minute).Truncate(time.Second)
	f.issue(clients, "client", end)
	server.Reissue(another)
	server.Restart()
	put(t, c, "/one", "with everything new")
	f.write(f.CA, another.PEM())
	server.Restart()
	put(t, c, "/one", "and nothing old")

	if got := figure(t, metrics, "client_certificate_expiry_timestamp_seconds"); int64(got) != end.Unix() {
		t.Errorf("the certificate's end is given as %v, want %v", got, end.Unix())
	}
	if ok, n := figure(t, metrics, "certificate_files_ok"), figure(t, metrics, "certificate_reloads_total"); ok != 1 || n == 0 {
		t.Errorf("certificate_files_ok is %v after %v reloads, want 1 after some", ok, n)
	}
	if n := figure(t, metrics, "connections_closed_total"); n < 3 {
		t.Errorf("%v connections ended, want one for each restart", n)
	}
	if closed, again, open := figure(t, metrics, "connections_closed_total"), figure(t, metrics, "reconnects_total"), figure(t, metrics, "connections"); again == 0 || again > closed || open != 1 {
		t.Errorf("%v connections ended, %v were made in place of them, %v stand: want as many as were needed", closed, again, open)
	}
}

// TestTheEndOfAClientCertificateIsToldBeforeItIsThere: a connection that
// stands outlives its certificate, and the next one fails in the night.
func TestTheEndOfAClientCertificateIsToldBeforeItIsThere(t *testing.T) {
	t.Parallel()
	authority := certtest.New(t, "all")
	f := newFiles(t, authority, authority)
	log := &waittest.Log{}
	c := dial(t, etcdkv.ClientConfig{
		Endpoints: []string{"https://127.0.0.1:1"}, Files: f.Paths, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if text := log.String(); text != "" {
		t.Errorf("before anything is wrong the log says\n%s", text)
	}
	end := time.Now().Add(time.Minute)
	f.issue(authority, "client", end) // of an hour and a minute, the last tenth is left
	for range 3 {
		etcdkv.LookAtFiles(c)
	}
	if text := log.String(); strings.Count(text, "renew it") != 1 || !strings.Contains(text, end.UTC().Format(time.RFC3339)) {
		t.Errorf("want one warning with the end, found\n%s", text)
	}
}

// TestACallThatFailsForTLSSaysWhatIsWrong: what gRPC says is "context deadline
// exceeded".
func TestACallThatFailsForTLSSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	servers, clients, foreign := certtest.New(t, "servers"), certtest.New(t, "clients"), certtest.New(t, "foreign")
	secure := etcdtest.StartWith(t, etcdtest.Options{Authority: servers, ClientAuthority: clients})
	plain := etcdtest.Start(t)
	plainly := func(url string) string { return strings.Replace(url, "https://", "http://", 1) }
	securely := func(url string) string { return strings.Replace(url, "http://", "https://", 1) }
	for name, c := range map[string]struct {
		url    string
		change func(*etcdkv.ClientConfig, files)
		says   []string
	}{
		"etcd of another authority": {secure.URL(), func(_ *etcdkv.ClientConfig, f files) { f.write(f.CA, foreign.PEM()) },
			[]string{"ca.pem", "CN=servers", "--etcd-ca"}},
		"no client certificate": {secure.URL(), func(cfg *etcdkv.ClientConfig, _ files) { cfg.Files.Cert, cfg.Files.Key = "", "" },
			[]string{"wants a client certificate", "--etcd-cert"}},
		"client certificate of another authority": {secure.URL(), func(_ *etcdkv.ClientConfig, f files) { f.issue(foreign, "client", time.Now().Add(time.Hour)) },
			[]string{"cert.pem", "CN=foreign", "--trusted-ca-file"}},
		"client certificate that has expired": {secure.URL(), func(_ *etcdkv.ClientConfig, f files) { f.issue(clients, "client", time.Now().Add(-time.Minute)) },
			[]string{"cert.pem", "valid from", "valid now"}},
		"https where etcd speaks http": {securely(plain.URL()), nil, []string{"want TLS", "https"}},
		"http where etcd speaks https": {plainly(secure.URL()), func(cfg *etcdkv.ClientConfig, _ files) { cfg.Files = tlsfile.Paths{} },
			[]string{"use https endpoints"}},
		"nobody there": {"https://127.0.0.1:1", nil, []string{"127.0.0.1:1", "refused"}},
		"name that is not in the certificate": {secure.URL(), func(cfg *etcdkv.ClientConfig, _ files) {
			cfg.TLS = &tls.Config{ServerName: "etcd.example.com", MinVersion: tls.VersionTLS12}
		}, []string{"etcd.example.com", "127.0.0.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiles(t, servers, clients)
			cfg := etcdkv.ClientConfig{Endpoints: []string{c.url}, Files: f.Paths}
			if c.change != nil {
				c.change(&cfg, f)
			}
			client := dial(t, cfg)
			// A first attempt may have been given up by this side just before
			// etcd's alert was read.
			waittest.Nil(t, "a call says what is wrong", func() error {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := client.Get(ctx, "/one")
				if !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.Unavailable {
					t.Fatalf("want the call to end with its deadline, got %v", err)
				}
				for _, text := range c.says {
					if !strings.Contains(err.Error(), text) {
						return fmt.Errorf("want %q in the error, got %w", text, err)
					}
				}
				return nil
			})
		})
	}
}

// TestConflictingSettingsAreRefused: each would leave one part out silently.
func TestConflictingSettingsAreRefused(t *testing.T) {
	authority := certtest.New(t, "all")
	f := newFiles(t, authority, authority)
	for name, cfg := range map[string]etcdkv.ClientConfig{
		"certificates for http":     {Endpoints: []string{"http://127.0.0.1:1"}, Files: f.Paths},
		"TLS for http":              {Endpoints: []string{"http://127.0.0.1:1"}, TLS: &tls.Config{MinVersion: tls.VersionTLS12}},
		"http and https":            {Endpoints: []string{"https://127.0.0.1:1", "http://127.0.0.1:2"}},
		"two lists of authorities":  {Endpoints: []string{"https://x:1"}, Files: f.Paths, TLS: trusting(authority)},
		"password without user":     {Endpoints: []string{"http://x:1"}, Password: "secret"},
		"two passwords":             {Endpoints: []string{"http://x:1"}, Username: "a", Password: "secret", PasswordFile: f.Key},
		"password file of many":     {Endpoints: []string{"http://x:1"}, Username: "a", PasswordFile: f.Key},
		"password that is not here": {Endpoints: []string{"http://x:1"}, Username: "a", PasswordFile: f.Key + "x"},
	} {
		if c, err := etcdkv.Dial(cfg); err == nil {
			t.Errorf("%s: accepted", name)
			_ = c.Close()
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
}

// TestRenewedClientCertificateIsShownByTheNextConnection also looks at it from
// the server's side.
func TestRenewedClientCertificateIsShownByTheNextConnection(t *testing.T) {
	t.Parallel()
	authority := certtest.New(t, "all")
	f := newFiles(t, authority, authority)
	cert, key := authority.Issue(t, "server")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	f.issue(authority, "first", time.Now().Add(time.Hour))
	c := dial(t, etcdkv.ClientConfig{Endpoints: []string{"https://" + listener.Addr().String()}, Files: f.Paths})
	_ = ask(t, c)
	if got := shown(t, listener); got != "first" {
		t.Errorf("the first connection shows the certificate of %s", got)
	}
	f.issue(authority, "second", time.Now().Add(time.Hour))
	// A connection that was being made meanwhile may still be of the first.
	waittest.Until(t, "a connection shows the new certificate", func() bool {
		_ = ask(t, c)
		return shown(t, listener) == "second"
	})
}

// shown is whose certificate the next connection shows.
func shown(t *testing.T, l net.Listener) string {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	server := conn.(*tls.Conn)
	if err := server.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return server.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func trusting(a *certtest.Authority) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.Cert)
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// ask makes a call that is not expected to succeed, so that the client
// connects.
func ask(t *testing.T, c *clientv3.Client) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Get(ctx, "/one")
	return err
}
