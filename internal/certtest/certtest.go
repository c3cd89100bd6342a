// Package certtest makes certificates that tests trust.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// Authority signs certificates that are good for an hour.
type Authority struct {
	// Cert is its own.
	Cert *x509.Certificate

	key *ecdsa.PrivateKey
}

// New makes an authority.
func New(tb testing.TB, name string) *Authority {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, key := sealed(tb, template, nil)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &Authority{cert, key}
}

// sealed signs a certificate for a new key, by that key itself if by is nil.
func sealed(tb testing.TB, template *x509.Certificate, by *Authority) ([]byte, *ecdsa.PrivateKey) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.Cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		tb.Fatal(err)
	}
	return der, key
}

// Issue returns a certificate of this host, for servers and clients, and its
// key, in PEM form.
func (a *Authority) Issue(tb testing.TB, name string) (cert, key []byte) {
	tb.Helper()
	return a.IssueUntil(tb, name, time.Now().Add(time.Hour))
}

// IssueUntil is Issue with another end, which may have passed.
func (a *Authority) IssueUntil(tb testing.TB, name string, end time.Time) (cert, key []byte) {
	tb.Helper()
	return a.IssueFor(tb, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(192, 0, 2, 7)}, DNSNames: []string{"localhost"},
	})
}

// IssueFor signs a certificate of which everything but its number and, unless
// they are set, its beginning and end, is as in the template.
func (a *Authority) IssueFor(tb testing.TB, template *x509.Certificate) (cert, key []byte) {
	tb.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	der, private := sealed(tb, template, a)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// PEM returns the certificate of the authority in PEM form.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Cert.Raw})
}
