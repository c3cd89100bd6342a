package release

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// errTransport is a disagreement of client and server about TLS, which another
// attempt does not mend.
var errTransport = errors.New("no connection to trust")

// explained says what to do about a connection that fails for its TLS, or for
// the want of it.
func (a *httpAccess) explained(resp *http.Response, err error) (*http.Response, error) {
	var record tls.RecordHeaderError
	switch {
	case err == nil:
		return spokenPlainly(resp)
	case errors.As(err, new(x509.UnknownAuthorityError)) && a.files.CA != "":
		err = fmt.Errorf("%w: %w: the authorities in %s are others: add the one that has signed the server's certificate (CAFile, --repo-ca)", errTransport, err, a.files.CA)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		err = fmt.Errorf("%w: %w: if the server is right, give the certificate of its authority in a PEM file (CAFile, --repo-ca)", errTransport, err)
	case errors.As(err, new(*tls.CertificateVerificationError)):
		err = fmt.Errorf("%w: %w: the server has to show another certificate, or the address another name", errTransport, err)
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		err = fmt.Errorf("%w: %w: give the port at which the server speaks TLS, or, where the way to it is safe, an address with http:// or oci+http://", errTransport, err)
	}
	return nil, err
}

// spokenPlainly finds answers of a server that wants TLS, which it gives with
// the status of a malformed request.
func spokenPlainly(resp *http.Response) (*http.Response, error) {
	if resp.TLS != nil || resp.StatusCode != http.StatusBadRequest {
		return resp, nil
	}
	start, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	// What Go's servers say to plain HTTP at a port for TLS, nginx and Apache.
	for _, mark := range []string{"HTTP request to an HTTPS server", "plain HTTP request was sent to HTTPS port", "plain HTTP to an SSL-enabled server"} {
		if bytes.Contains(start, []byte(mark)) {
			return nil, errors.Join(fmt.Errorf("%w: the server speaks TLS at this port and was spoken to without: give an address with https://, or oci:// in place of oci+http://, and for a registry on this host the certificate of its authority (CAFile, --repo-ca)", errTransport), resp.Body.Close())
		}
	}
	rest := io.MultiReader(bytes.NewReader(start), resp.Body)
	if err != nil {
		rest = io.MultiReader(bytes.NewReader(start), failing{err})
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{rest, resp.Body}
	return resp, nil
}

// failing is the rest of a body that broke off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
