package release

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/perennial-go/perennial/internal/secretfile"
	"github.com/perennial-go/perennial/internal/tlsfile"
)

// httpAccess is an http.RoundTripper that knows what a server wants to see
// and what it has to show. Its files are read for each connection, so that
// they can be replaced while an agent lives for years.
//
// What identifies this host goes to the repository's own host alone, and to
// that over TLS alone. net/http would also send an Authorization header to a
// subdomain or another port that the server redirects to.
type httpAccess struct {
	base     *url.URL
	config   *tls.Config // nil is the default
	files    tlsfile.Paths
	authFile string
	plain    *http.Transport // for when no file has a say
}

func newHTTPAccess(cfg HTTPConfig, base *url.URL) (*httpAccess, error) {
	a := &httpAccess{
		base: base, config: cfg.TLS.Clone(), plain: newTransport(cfg.TLS.Clone()),
		files: tlsfile.Paths{CA: cfg.CAFile, Cert: cfg.CertFile, Key: cfg.KeyFile}, authFile: cfg.AuthFile,
	}
	switch {
	case a.files.Check() != nil:
		return nil, errors.New("repository: CertFile and KeyFile (--repo-cert, --repo-key) belong together: give both or none")
	case base.Scheme != "https" && (a.files.Given() || a.authFile != ""):
		return nil, fmt.Errorf("repository URL %s: CAFile, CertFile and AuthFile (--repo-ca, --repo-cert, --repo-auth-file) are for https: over http anyone on the way could read and change what they protect", base.Redacted())
	case a.authFile != "" && base.User != nil:
		return nil, fmt.Errorf("repository URL %s has a user, and AuthFile (--repo-auth-file) is given as well: give one of the two", base.Redacted())
	case a.files.CA != "" && a.config != nil && a.config.RootCAs != nil:
		return nil, errors.New("repository: CAFile and TLS.RootCAs are both given: give one of the two")
	}
	// A wrong path shows now, not in the night of the upgrade.
	if _, err := a.tlsConfig(true); err != nil {
		return nil, err
	}
	if _, err := a.authorization(); err != nil {
		return nil, err
	}
	return a, nil
}

func newTransport(config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: config,
		// An upgrade makes a handful of requests and then none for
		// weeks: idle connections would be kept for nothing.
		DisableKeepAlives: true,
		// Transparent decompression would undo byte ranges and the
		// bounds on what is read.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
}

// RoundTrip implements http.RoundTripper.
func (a *httpAccess) RoundTrip(req *http.Request) (*http.Response, error) {
	own := sameServer(req.URL, a.base)
	if own && a.authFile != "" {
		value, err := a.authorization()
		if err != nil {
			return nil, permanent{err}
		}
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", value)
	}
	if !a.files.Given() {
		return a.explained(a.plain.RoundTrip(req))
	}
	config, err := a.tlsConfig(own)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, permanent{err}
	}
	if err != nil {
		return nil, err // perhaps one of two files has been replaced and the other not yet
	}
	return a.explained(newTransport(config).RoundTrip(req))
}

// sameServer compares scheme, host and port.
func sameServer(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// authorization returns the header's value.
func (a *httpAccess) authorization() (string, error) {
	if a.authFile == "" {
		return "", nil
	}
	const what = "repository: authorization file"
	value, err := secretfile.Read(what, a.authFile, maxKeyFileSize)
	if err != nil {
		return "", err
	}
	scheme, rest, ok := strings.Cut(value, " ")
	if !ok || strings.HasSuffix(scheme, ":") || strings.TrimSpace(rest) == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", fmt.Errorf("%s %s: want one line with the value of the header, such as Bearer TOKEN, found something else", what, a.authFile)
	}
	return value, nil
}

// tlsConfig returns the configuration as the files are now. own is whether
// it is for the repository's own host.
func (a *httpAccess) tlsConfig(own bool) (*tls.Config, error) {
	config := a.config.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	roots, err := a.files.Roots()
	if err != nil {
		return nil, fmt.Errorf("repository: %w", err)
	}
	if roots != nil {
		config.RootCAs = roots
	}
	if own {
		pair, err := a.files.Pair()
		if err != nil {
			return nil, fmt.Errorf("repository: %w", err)
		}
		if pair != nil {
			config.Certificates = []tls.Certificate{*pair}
		}
	}
	return config, nil
}
