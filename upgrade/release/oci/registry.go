package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/upgrade/release"
)

// remoteRegistry is one repository of a registry. Everything is read with the
// reader of release.HTTP, so that transfers are resumed, tried again and
// watched for stalls as those from a web server; oras-go signs requests and
// writes.
type remoteRegistry struct {
	ref      Reference
	base     *url.URL
	http     *release.HTTP
	repo     *remote.Repository
	stall    time.Duration
	attempts int
}

func newRegistry(loc location, cfg Config) (*remoteRegistry, error) {
	plain := loc.plain || loc.ref.loopback() && cfg.TLS == nil && !cfg.files()
	base := &url.URL{Scheme: "https", Host: loc.ref.Host, Path: "/v2/" + loc.ref.Repository}
	if plain {
		base.Scheme = "http"
	}
	web, err := release.OpenHTTPClient(release.HTTPConfig{
		URL: base.String(), TLS: cfg.TLS, CAFile: cfg.CAFile, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile,
	})
	if err != nil {
		return nil, err
	}
	client := newAuthorized(loc.ref, web, cfg.DockerConfig)
	source, err := release.NewHTTP(release.HTTPConfig{
		URL: base.String(), Client: client,
		StallTimeout: cfg.StallTimeout, MinRate: cfg.MinRate, Attempts: cfg.Attempts,
	})
	if err != nil {
		return nil, err
	}
	return &remoteRegistry{
		ref: loc.ref, base: base, http: source,
		stall:    cmp.Or(cfg.StallTimeout, 30*time.Second),
		attempts: cmp.Or(cfg.Attempts, 5),
		repo: &remote.Repository{
			Client:           client,
			Reference:        registry.Reference{Registry: loc.ref.Host, Repository: loc.ref.Repository},
			PlainHTTP:        plain,
			MaxMetadataBytes: maxManifest,
			// An index of referrers that was replaced costs the registry a
			// few hundred bytes; few allow that it is deleted.
			SkipReferrersGC: true,
		},
	}, nil
}

func (r *remoteRegistry) String() string { return schemeRegistry + r.ref.Name() }

func (r *remoteRegistry) repository() string { return r.ref.Name() }

func (r *remoteRegistry) manifest(ctx context.Context, reference string) ([]byte, error) {
	accept := http.Header{"Accept": {strings.Join([]string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest}, ", ")}}
	return r.document(ctx, r.base.JoinPath("manifests", reference), accept)
}

func (r *remoteRegistry) document(ctx context.Context, u *url.URL, header http.Header) ([]byte, error) {
	body, total, err := r.http.OpenURL(ctx, u, header, 0)
	if err != nil {
		return nil, err
	}
	raw, err := boundedio.ReadAll(body, total, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", u.Redacted(), err)
	}
	return raw, nil
}

func (r *remoteRegistry) blob(ctx context.Context, hex string, offset int64) (io.ReadCloser, int64, error) {
	return r.http.OpenURL(ctx, r.base.JoinPath("blobs", digestPrefix+hex), nil, offset)
}

// referrers asks the registry, and where it does not know how, looks at the
// tag that clients keep in that case.
func (r *remoteRegistry) referrers(ctx context.Context, digest string) ([]ocispec.Descriptor, error) {
	raw, err := r.document(ctx, r.base.JoinPath("referrers", digest), http.Header{"Accept": {ocispec.MediaTypeImageIndex}})
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = r.manifest(ctx, strings.Replace(digest, ":", "-", 1))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	x, err := parseIndex(raw)
	if err != nil {
		return nil, fmt.Errorf("referrers of %s: %w", digest, err)
	}
	return x.Manifests, nil
}
