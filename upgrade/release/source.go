package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/internal/ident"
)

// Paths in a repository. Everything else is named by its digest.
const (
	indexPath       = "index.json"
	keyringPath     = "keyring.json"
	signatureSuffix = ".minisig"
)

func manifestPath(digest string) string { return "manifests/sha256/" + digest + ".json" }

func blobPath(digest string) string { return "blobs/sha256/" + digest }

// indexSignaturePath is where the signature of one state of the index lies
// for good, so that index.json can be replaced by a single rename.
func indexSignaturePath(digest string) string { return "indexes/sha256/" + digest + signatureSuffix }

// keyringSignaturePath is where a root's signature of one keyring lies for
// good; see indexSignaturePath. The copy beside the keyring has another name
// for each root, too.
func keyringSignaturePath(digest, root string) string {
	return "keyrings/sha256/" + digest + "." + root + signatureSuffix
}

func keyringCopyPath(root string) string { return keyringPath + "." + root + signatureSuffix }

// Source reads a repository. It is not trusted with anything: what it
// returns is bounded, and checked against signatures and digests.
//
// Implementations must be safe for concurrent use.
type Source interface {
	// Open reads the file at path, which is slash-separated, relative and
	// satisfies fs.ValidPath, from offset on. It returns the total size of
	// the file, or -1 if that is not known. An absent file is an error that
	// wraps fs.ErrNotExist; an offset past the end is io.EOF from the first
	// Read or an error. The reader ends with an error when ctx ends. A
	// source may retry and resume by itself, but must not retry what cannot
	// succeed.
	Open(ctx context.Context, path string, offset int64) (io.ReadCloser, int64, error)
	// String names the source for people, without credentials.
	String() string
}

// SourceConfig says where a repository is and what it takes to read it.
type SourceConfig struct {
	// Location is a directory, a file:// URL, or an http:// or https:// URL.
	Location string
	// HTTP is for a location on a web server; its URL is not used.
	HTTP HTTPConfig
}

// NewSource returns the source for a location, with defaults for all else:
// see SourceConfig. Nothing is read yet.
func NewSource(location string) (Source, error) {
	return OpenSource(SourceConfig{Location: location})
}

// OpenSource returns the source for a configuration. Of the repository
// nothing is read yet. Files of a configuration that the location has no use
// for are an error: what they were to protect would not be protected.
func OpenSource(cfg SourceConfig) (Source, error) {
	location := cfg.Location
	scheme, rest, ok := strings.Cut(location, "://")
	scheme = strings.ToLower(scheme)
	if h := cfg.HTTP; (!ok || scheme == "file") && h.CAFile+h.CertFile+h.KeyFile+h.AuthFile != "" {
		return nil, fmt.Errorf("repository %q: a CA, client certificate or authorization file (--repo-ca, --repo-cert, --repo-key, --repo-auth-file) is for an https:// URL: leave it out, or give such a URL", location)
	}
	if !ok {
		return NewDir(location)
	}
	switch scheme {
	case "http", "https":
		cfg.HTTP.URL = location
		return NewHTTP(cfg.HTTP)
	case "file":
		u, err := url.Parse(location)
		if err != nil || (u.Host != "" && u.Host != "localhost") {
			return nil, fmt.Errorf("repository %q: want file:///absolute/path, found host or path %q", location, rest)
		}
		return NewDir(u.Path)
	}
	return nil, fmt.Errorf("repository scheme %q: %w: give a directory, an http:// or https:// URL, or, to a program that takes OCI as agentd does, oci://host/repository or oci-layout:DIR", scheme, errors.ErrUnsupported)
}

// checkPath guards against a path that leaves the repository.
func checkPath(path string) error {
	if !ident.Path(path) {
		return fmt.Errorf("%.200q is no path inside a repository", path)
	}
	return nil
}

// readSmall reads a whole file of at most limit bytes.
func readSmall(ctx context.Context, src Source, path string, limit int64) ([]byte, error) {
	body, total, err := src.Open(ctx, path, 0)
	if err != nil {
		return nil, err
	}
	data, err := boundedio.ReadAll(body, total, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}
