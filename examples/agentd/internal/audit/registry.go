package audit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/perennial-go/perennial/upgrade/release"
)

// RegistryConfig says how registries are reached.
type RegistryConfig struct {
	// CAFile is a PEM file of the authorities that may vouch for registries,
	// instead of the system's.
	CAFile string
	// DockerConfig is the path of docker's config.json; empty is docker's own
	// default.
	DockerConfig string
	// Timeout is for one image, attempts and pauses in between included;
	// default 30 s.
	Timeout time.Duration
}

// Registry is Images that asks the registries that the images name. It uses https, but
// for registries on this host. It tries again with growing, jittered pauses
// where a registry is busy, and sends docker's credentials to the registry
// that they are for alone. It may be used concurrently.
type Registry struct {
	cfg RegistryConfig

	mu    sync.Mutex
	hosts map[string]*auth.Client
}

var _ Images = (*Registry)(nil)

// NewRegistry returns a resolver. Nothing is read or asked yet.
func NewRegistry(cfg RegistryConfig) (*Registry, error) {
	switch {
	case cfg.Timeout < 0:
		return nil, fmt.Errorf("timeout of registries: want more than nothing, found %v", cfg.Timeout)
	case cfg.Timeout == 0:
		cfg.Timeout = 30 * time.Second
	}
	return &Registry{cfg: cfg, hosts: map[string]*auth.Client{}}, nil
}

// Digest implements Images.
func (r *Registry) Digest(ctx context.Context, host, repository, tag string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	ref := registry.Reference{Registry: host, Repository: repository}
	client, err := r.client(ref.Host())
	if err != nil {
		return "", err
	}
	repo := &remote.Repository{Client: client, Reference: ref, PlainHTTP: r.plain(host)}
	found, err := repo.Resolve(ctx, tag)
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		return "", fmt.Errorf("%s/%s has no tag %s", host, repository, tag)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return "", fmt.Errorf("%s wants credentials: run docker login %s", host, host)
	case err != nil:
		return "", fmt.Errorf("%s/%s could not be asked for %s: %w", host, repository, tag, err)
	}
	return string(found.Digest), nil
}

// client returns the client for one host, which keeps connections and tokens.
func (r *Registry) client(host string) (*auth.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.hosts[host]; c != nil {
		return c, nil
	}
	scheme := "https"
	if r.plain(host) {
		scheme = "http"
	}
	web, err := release.OpenHTTPClient(release.HTTPConfig{URL: scheme + "://" + host, CAFile: r.cfg.CAFile})
	if err != nil {
		return nil, err
	}
	store, err := r.store()
	if err != nil {
		return nil, fmt.Errorf("docker's configuration cannot be read: %w", err)
	}
	c := &auth.Client{
		Client:     &http.Client{Transport: retry.NewTransport(web.Transport), CheckRedirect: web.CheckRedirect},
		Cache:      auth.NewCache(),
		ClientID:   "agentd-audit",
		Header:     http.Header{"User-Agent": {"agentd-audit"}},
		Credential: credentials.Credential(store),
	}
	r.hosts[host] = c
	return c, nil
}

func (r *Registry) store() (credentials.Store, error) {
	if r.cfg.DockerConfig == "" {
		return credentials.NewStoreFromDocker(credentials.StoreOptions{})
	}
	return credentials.NewStore(r.cfg.DockerConfig, credentials.StoreOptions{})
}

// plain reports whether a registry is spoken to without TLS, as docker does
// it: on this host, where encryption protects nothing.
func (r *Registry) plain(host string) bool {
	if r.cfg.CAFile != "" {
		return false
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.IsLoopback()
}
