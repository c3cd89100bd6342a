// Package tlsfile reads what TLS needs from files that are replaced
// while the process lives for years.
package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/secretfile"
)

// Limits of the files. The first lets the bundle of a whole system through.
const (
	maxCertSize = 4 << 20
	maxKeySize  = 64 << 10
)

// Paths name PEM files; an empty one means that there is none.
type Paths struct {
	// CA holds the certificates of the authorities that may vouch for a
	// server, in place of the system's.
	CA string
	// Cert holds the certificate with its chain, Key its private key, which
	// others than its owner must not be able to read. Both or none.
	Cert, Key string
	// What names the certificate in errors; default "client certificate".
	What string
}

func (p Paths) what() string {
	if p.What != "" {
		return p.What
	}
	return "client certificate"
}

// Given tells whether any file is named.
func (p Paths) Given() bool { return p.CA != "" || p.Cert != "" || p.Key != "" }

// Check refuses a certificate without a key, and the reverse.
func (p Paths) Check() error {
	if (p.Cert == "") != (p.Key == "") {
		return fmt.Errorf("a %s and its key belong together: give both files or none", p.what())
	}
	return nil
}

// Roots reads the authorities; nil without a file, which means the system's.
func (p Paths) Roots() (*x509.CertPool, error) {
	if p.CA == "" {
		return nil, nil //nolint:nilnil // nil is a list, too: the system's
	}
	pem, err := atomicfile.Read(p.CA, maxCertSize)
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %s holds no certificate: give one or more in PEM form", p.CA)
	}
	return roots, nil
}

// Pair reads the certificate and its key; nil without files. The error
// says nothing of what the key's file holds.
func (p Paths) Pair() (*tls.Certificate, error) {
	if p.Cert == "" {
		return nil, nil //nolint:nilnil // none is what was asked for
	}
	chain, err := atomicfile.Read(p.Cert, maxCertSize)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.what(), err)
	}
	key, err := secretfile.Read("key of the "+p.what(), p.Key, maxKeySize)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, []byte(key))
	if err != nil {
		return nil, fmt.Errorf("%s %s with key %s: %w: give the two that belong together, in PEM form", p.what(), p.Cert, p.Key, err)
	}
	return &pair, nil
}
