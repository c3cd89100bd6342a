// Package certs is a small certificate authority in a directory, for trying
// out mutual TLS and for small fleets.
//
// The directory, mode 0700, holds ca.pem, the authorities that everybody
// trusts (two while they are exchanged); ca.key.pem, the one that signs, with
// its key; and NAME.pem for each member of etcd and each user. A certificate
// and its key are one file, mode 0600, so that no reader ever sees one that
// does not belong to the other.
package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/examples/internal/durable"
)

const (
	bundleFile  = "ca.pem"
	signerFile  = "ca.key.pem"
	leafSuffix  = ".pem"
	maxFileSize = 1 << 20
	// backdated lets hosts whose clocks are late accept a new certificate.
	backdated = 5 * time.Minute
	// authorityLife is long: exchanging it touches every host.
	authorityLife = 10 * 365 * 24 * time.Hour
)

// Dir is the directory of an authority.
type Dir string

// Leaf is a certificate of a member or a user.
type Leaf struct {
	// Name is the file's name without .pem, and the common name: the etcd user
	// of a client.
	Name string `json:"name"`
	// Hosts are the names and addresses of a member; none for a user.
	Hosts []string `json:"hosts,omitempty"`
	// Until is the end of its validity.
	Until time.Time `json:"until"`
	// Authority is the name of the one that signed it.
	Authority string `json:"authority"`
}

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// Init makes the directory and the authority, unless there is one, and
// reports whether it did.
func (d Dir) Init() (made bool, err error) {
	if err := durable.MakeDir(string(d)); err != nil {
		return false, err
	}
	if _, err = d.signer(); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, d.NewAuthority()
}

// NewAuthority makes another authority, which signs from now on; those before
// stay trusted until DropOldAuthorities. Everybody has to have ca.pem before
// the first certificate of it is used.
func (d Dir) NewAuthority() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := serialNumber()
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("agentd etcd authority of %s, %.8x", now.UTC().Format(time.DateOnly), serial.Bytes())},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(d.path(bundleFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Trusted before it signs: a crash in between leaves one that nobody uses.
	if err := durable.WriteFile(d.path(bundleFile), append(encodeCertificate(der), old...)); err != nil {
		return err
	}
	return d.write(signerFile, der, key)
}

// DropOldAuthorities leaves only the authority that signs. It refuses while a
// certificate of another is in the directory.
func (d Dir) DropOldAuthorities() error {
	signer, err := d.signer()
	if err != nil {
		return err
	}
	leaves, err := d.List()
	if err != nil {
		return err
	}
	for _, l := range leaves {
		if l.Authority != signer.cert.Subject.CommonName {
			return fmt.Errorf("certificate %s is signed by %q, which is to be dropped: renew it first", l.Name, l.Authority)
		}
	}
	return durable.WriteFile(d.path(bundleFile), encodeCertificate(signer.cert.Raw))
}

// Issue writes a certificate, in place of the one there is. With hosts it is
// for a member of etcd, as server and as peer; without, for a user.
func (d Dir) Issue(name string, hosts []string, valid time.Duration) error {
	signer, err := d.signer()
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := serialNumber()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-backdated), NotAfter: time.Now().Add(valid),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if len(hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if template.NotAfter.After(signer.cert.NotAfter) {
		return fmt.Errorf("certificate %s would be valid until %s, longer than its authority, which ends on %s: make a new authority first",
			name, template.NotAfter.UTC().Format(time.RFC3339), signer.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, &key.PublicKey, signer.key)
	if err != nil {
		return err
	}
	return d.write(name+leafSuffix, der, key)
}

// List returns the certificates of members and users by name.
func (d Dir) List() ([]Leaf, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	var leaves []Leaf
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), leafSuffix)
		if !ok || e.Name() == bundleFile || e.Name() == signerFile || strings.HasPrefix(name, ".") {
			continue
		}
		cert, _, err := d.read(e.Name())
		if err != nil {
			return nil, err
		}
		l := Leaf{Name: name, Until: cert.NotAfter.UTC(), Authority: cert.Issuer.CommonName, Hosts: slices.Clone(cert.DNSNames)}
		for _, ip := range cert.IPAddresses {
			l.Hosts = append(l.Hosts, ip.String())
		}
		leaves = append(leaves, l)
	}
	return leaves, nil
}

// signer is who signs.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (d Dir) signer() (signer, error) {
	cert, key, err := d.read(signerFile)
	if err == nil && !cert.IsCA {
		err = fmt.Errorf("%s is no authority", d.path(signerFile))
	}
	return signer{cert, key}, err
}

func (d Dir) write(file string, der []byte, key *ecdsa.PrivateKey) error {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return durable.WriteFile(d.path(file), append(encodeCertificate(der), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})...))
}

// read parses a certificate and its key; errors say nothing of what is in the
// file.
func (d Dir) read(file string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	path := d.path(file)
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > maxFileSize {
		return nil, nil, fmt.Errorf("%s has %d bytes: want a certificate and its key", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	var cert *x509.Certificate
	var key *ecdsa.PrivateKey
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			cert, err = x509.ParseCertificate(block.Bytes)
		case "PRIVATE KEY":
			var parsed any
			parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
			key, _ = parsed.(*ecdsa.PrivateKey)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s is damaged: want a certificate and its key in PEM form, as agentd etcd certs writes it", path)
		}
	}
	if cert == nil || key == nil || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, fmt.Errorf("%s: want a certificate and its key in PEM form, as agentd etcd certs writes it, found something else", path)
	}
	return cert, key, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func serialNumber() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// host is what names of hosts look like; no wildcard, which would make a
// certificate good for members that are not asked for.
//
//nolint:gochecknoglobals // compiled once, never written to
var host = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*$`)

// Hosts tells whether all are names or addresses that a client could use.
func Hosts(all []string) bool {
	return !slices.ContainsFunc(all, func(h string) bool { return net.ParseIP(h) == nil && (len(h) > 253 || !host.MatchString(h)) })
}

// SameHosts tells whether a certificate names these hosts and no others.
func (l Leaf) SameHosts(hosts []string) bool {
	a, b := slices.Clone(l.Hosts), slices.Clone(hosts)
	for i, h := range b {
		if ip := net.ParseIP(h); ip != nil {
			b[i] = ip.String()
		}
	}
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// Authorities returns the names of those that ca.pem holds, the newest first.
func (d Dir) Authorities() ([]string, error) {
	data, err := os.ReadFile(d.path(bundleFile))
	if err != nil {
		return nil, err
	}
	var names []string
	for block, rest := pem.Decode(bytes.TrimSpace(data)); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s is damaged: %w", d.path(bundleFile), err)
		}
		names = append(names, cert.Subject.CommonName)
	}
	return names, nil
}
