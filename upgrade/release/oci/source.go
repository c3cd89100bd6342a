package oci

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/internal/ident"
	"github.com/perennial-go/perennial/upgrade/release"
)

// Config says where a repository is and how it is reached. Only Location is
// required.
type Config struct {
	// Location is oci://host[:port]/repository, or oci-layout:PATH for an OCI
	// image layout directory. A registry is spoken to with TLS, unless it is
	// on the loopback interface and TLS is nil, or the scheme is oci+http://.
	Location string
	// TLS is the client's TLS configuration; nil means the system's roots.
	TLS *tls.Config
	// CAFile, CertFile and KeyFile are those of release.HTTPConfig, for a
	// registry that is spoken to with TLS, also on the loopback interface.
	// They are read by New, and again for each connection. CAFile is for
	// whatever the registry redirects to, too; the client certificate is shown
	// to the registry alone, not to a token service elsewhere.
	CAFile, CertFile, KeyFile string
	// DockerConfig is docker's configuration file with the credentials;
	// default config.json in $DOCKER_CONFIG or in ~/.docker. It is read anew
	// whenever credentials are needed.
	DockerConfig string
	// StallTimeout, MinRate and Attempts are those of release.HTTPConfig.
	StallTimeout time.Duration
	MinRate      int64
	Attempts     int
}

// Source reads a repository from a registry or a layout. It is safe for
// concurrent use.
type Source struct {
	back backend

	mu   sync.Mutex
	last *snapshot // what the tag led to when it was last looked at
}

var _ release.Source = (*Source)(nil)

// backend is a registry or a layout.
type backend interface {
	// manifest reads what a tag or digest names, at most maxManifest bytes.
	// An absent one is fs.ErrNotExist.
	manifest(ctx context.Context, reference string) ([]byte, error)
	// blob reads the blob of a digest, given in hexadecimal, from offset on.
	blob(ctx context.Context, hex string, offset int64) (io.ReadCloser, int64, error)
	// referrers lists manifests that say that their subject is digest.
	referrers(ctx context.Context, digest string) ([]ocispec.Descriptor, error)
	// repository is what docker calls the repository; empty for a layout.
	repository() string
	// String names the backend for people.
	String() string
}

// New checks the configuration and that its files can be read. It connects to
// nothing.
func New(cfg Config) (*Source, error) {
	loc, err := parseLocation(cfg.Location)
	if err != nil {
		return nil, err
	}
	if loc.dir != "" && cfg.files() {
		return nil, fmt.Errorf("%s: a CA or client certificate file (--repo-ca, --repo-cert, --repo-key) is for an oci:// registry: leave it out", cfg.Location)
	}
	if loc.dir != "" {
		l, err := newLayout(loc.dir)
		if err != nil {
			return nil, err
		}
		return &Source{back: l}, nil
	}
	r, err := newRegistry(loc, cfg)
	if err != nil {
		return nil, err
	}
	return &Source{back: r}, nil
}

// files reports whether there are files for TLS.
func (cfg Config) files() bool { return cfg.CAFile+cfg.CertFile+cfg.KeyFile != "" }

// String names the registry or the layout, without credentials.
func (s *Source) String() string { return s.back.String() }

// Open implements release.Source.
func (s *Source) Open(ctx context.Context, path string, offset int64) (io.ReadCloser, int64, error) {
	if err := checkPath(path); err != nil {
		return nil, 0, err
	}
	if offset < 0 {
		return nil, 0, fmt.Errorf("%s: offset %d is negative", path, offset)
	}
	if hex, ok := addressed(path); ok {
		return s.back.blob(ctx, hex, offset)
	}
	file, err := s.file(ctx, path)
	if err != nil {
		return nil, 0, fmt.Errorf("%s in %s: %w", path, s, err)
	}
	body, total, err := s.back.blob(ctx, hexOf(file), offset)
	if err != nil {
		return nil, 0, fmt.Errorf("%s in %s: %w", path, s, err)
	}
	if total >= 0 && total != file.Size {
		err := fmt.Errorf("%w: %s in %s has %d bytes, its descriptor says %d", release.ErrDigest, path, s, total, file.Size)
		return nil, 0, errors.Join(err, body.Close())
	}
	return body, file.Size, nil
}

// addressed returns the digest of a file that is named by it.
func addressed(path string) (hex string, ok bool) {
	if hex, ok = strings.CutPrefix(path, "blobs/sha256/"); ok {
		return hex, ident.SHA256(hex)
	}
	if hex, ok = strings.CutPrefix(path, manifestDir); ok {
		hex, ok = strings.CutSuffix(hex, ".json")
		return hex, ok && ident.SHA256(hex)
	}
	return "", false
}

// file finds a file that is not named by its digest. What changes in place
// is looked up anew; the signatures beside it are taken from the same state.
func (s *Source) file(ctx context.Context, path string) (ocispec.Descriptor, error) {
	if strings.HasSuffix(path, signatureSuffix) {
		s.mu.Lock()
		last := s.last
		s.mu.Unlock()
		if last != nil {
			if file, ok := last.files[path]; ok {
				return file, nil
			}
		}
	}
	now, err := s.snapshot(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	file, ok := now.files[path]
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("the artifact under the tag %s has no such file: %w", Tag, fs.ErrNotExist)
	}
	return file, nil
}

// snapshot follows the tag.
func (s *Source) snapshot(ctx context.Context) (*snapshot, error) {
	now, err := readSnapshot(ctx, s.back)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = now
	return now, nil
}

// checkPath refuses what cannot be a file of a repository, in a request and
// in the title of a layer.
func checkPath(path string) error {
	if len(path) > maxTitle || !ident.Path(path) {
		return fmt.Errorf("%.200q is no path inside a repository", path)
	}
	return nil
}
