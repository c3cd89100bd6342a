package admin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/tlsfile"
)

// maxIntermediates bounds the work that a chain can cause.
const maxIntermediates = 8

// subjectsOf returns the subjects that a client certificate makes its holder,
// if one of the authorities has signed it for clients. The TLS handshake has
// seen to it that the client has the key. It is judged here, and at each call,
// so that a refusal is counted and told, and what is no longer signed or has
// expired counts no more on connections that are open.
func subjectsOf(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) ([]string, error) {
	if len(chain) > 1+maxIntermediates {
		return nil, fmt.Errorf("a chain of %d certificates: want at most %d", len(chain), 1+maxIntermediates)
	}
	leaf, between := chain[0], x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return nil, reworded(err)
	}
	var subjects []string
	for _, u := range leaf.URIs {
		subjects = append(subjects, kindURI+u.String())
	}
	for _, name := range leaf.DNSNames {
		subjects = append(subjects, kindDNS+strings.ToLower(name))
	}
	if cn := leaf.Subject.CommonName; cn != "" {
		subjects = append(subjects, kindCN+cn)
	}
	return subjects, nil
}

// reworded says in few words why a certificate does not count; x509's errors
// can hold long names that the client chose.
func reworded(err error) error {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.Expired:
			return errors.New("it has expired or is not valid yet")
		case x509.IncompatibleUsage:
			return errors.New("it is not for clients (extended key usage)")
		}
		return errors.New("its chain is not valid")
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return errors.New("no authority of the client CA file has signed it")
	}
	return errors.New("it cannot be verified")
}

// tlsConfig serves with the newest certificate, and asks clients for theirs.
func tlsConfig(files *tlsfile.Files, ask bool) *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			now, _ := files.Current() // what is wrong with the files, watch tells
			return now.Pair, nil
		},
	}
	if ask {
		cfg.ClientAuth = tls.RequestClientCert
	}
	return cfg
}
