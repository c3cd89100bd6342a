package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificate writes a self-signed certificate with this serial number.
func certificate(t *testing.T, cert, key string, serial int64) tls.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	for path, text := range map[string][]byte{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func TestRenewedClientCertificateIsUsedWithoutARestart(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	server := certificate(t, at("ca"), at("ca.key"), 1)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	e := etcdFlags{endpoints: []string{"https://" + listener.Addr().String()}, ca: at("ca"), cert: at("cert"), key: at("key")}
	certificate(t, e.cert, e.key, 7)
	cfg, err := e.config()
	if err != nil {
		t.Fatal(err)
	}
	for _, serial := range []int64{7, 8} {
		certificate(t, e.cert, e.key, serial)
		if got := presented(t, listener, cfg.TLS); got != serial {
			t.Errorf("the client presents certificate %d, want %d", got, serial)
		}
	}
}

// presented is the serial number of the client's certificate.
func presented(t *testing.T, listener net.Listener, cfg *tls.Config) int64 {
	t.Helper()
	dialled := make(chan error, 1)
	go func() {
		conn, err := tls.Dial("tcp", listener.Addr().String(), cfg)
		if err == nil {
			err = conn.Close()
		}
		dialled <- err
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	server, ok := conn.(*tls.Conn)
	if !ok {
		t.Fatalf("the listener returns a %T", conn)
	}
	if err := server.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-dialled; err != nil {
		t.Fatal(err)
	}
	return server.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestPlainEtcdGetsNoTLSAndBadFilesAreNamed(t *testing.T) {
	plain := etcdFlags{endpoints: []string{"http://127.0.0.1:2379"}}
	if cfg, err := plain.config(); err != nil || cfg.TLS != nil {
		t.Errorf("config() = %+v, %v; want no TLS", cfg, err)
	}
	secure := etcdFlags{endpoints: []string{"https://127.0.0.1:2379"}}
	if cfg, err := secure.config(); err != nil || cfg.TLS == nil {
		t.Errorf("config() = %+v, %v; want TLS with the system's authorities", cfg, err)
	}
	text := writeFile(t, "no certificate")
	for name, e := range map[string]etcdFlags{
		"authorities that are no PEM": {endpoints: plain.endpoints, ca: text},
		"authorities that are absent": {endpoints: plain.endpoints, ca: text + "x"},
		"certificate that is no PEM":  {endpoints: plain.endpoints, cert: text, key: text},
		"password that is absent":     {endpoints: plain.endpoints, passwordFile: text + "x"},
	} {
		if _, err := e.config(); err == nil {
			t.Errorf("%s: config() accepted it", name)
		}
	}
	withPassword := etcdFlags{endpoints: plain.endpoints, user: "a", passwordFile: writeFile(t, "secret\n")}
	if cfg, err := withPassword.config(); err != nil || cfg.Password != "secret" || cfg.Username != "a" {
		t.Errorf("config() = %+v, %v; want the password without its newline", cfg, err)
	}
}
