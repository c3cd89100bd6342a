package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/perennial-go/perennial/internal/ident"
)

// PullPolicy says when a Cache asks its source. What is named by its digest
// never changes and is taken from the cache under each policy; the policy is
// about the index and the signatures.
type PullPolicy string

const (
	// PullAlways asks the source each time.
	PullAlways PullPolicy = "Always"
	// PullIfNotPresent asks the source for what the cache does not have. A
	// Client besides asks anew when what the cache has will not do: the
	// index has expired, is older than one that the host has accepted or
	// does not list the wanted version, or something is not signed as it
	// should be. So a withdrawn release, a newer one or a revoked key is
	// noticed when the kept index expires, somebody asks for a version that
	// it lacks, or somebody calls Client.FreshIndex, as an Upgrader does each
	// CheckEvery, and not before.
	PullIfNotPresent PullPolicy = "IfNotPresent"
	// PullNever asks nobody: what the cache lacks is ErrNotCached.
	PullNever PullPolicy = "Never"
)

// ErrNotCached means that the cache lacks a file and must not ask for it.
var ErrNotCached = errors.New("not in the cache")

// CacheConfig configures a Cache. Dir and Source are required.
type CacheConfig struct {
	// Dir is the cache's directory, made with mode 0755 if it is not there.
	// To share it between users, make it with mode 1777 beforehand: whatever
	// the cache makes in it takes over the mode. What is cached can be read by
	// everybody who can enter the directory: for a Source that needs
	// credentials, make it with mode 0700.
	Dir string
	// Source is what is cached.
	Source Source
	// Pull is when Source is asked; default PullAlways.
	Pull PullPolicy
	// MaxBytes bounds the files that are named by their digest; default
	// 2 GiB. What was used longest ago goes first, what is being read stays.
	MaxBytes int64
	// Fill is what PullNever's errors tell people to run; default a
	// sentence about the policy.
	Fill string
	// Logger is told of what could not be kept, which fails nothing else;
	// nil discards.
	Logger *slog.Logger
}

// Cache is a Source that keeps what it reads from another one in a directory
// of this host, and answers from there. It may be shared by any number of
// processes, also of different users, that may be killed at any point. It is
// safe for concurrent use.
//
// A file named by its digest is put in only once its digest is right, and its
// digest is checked again before it is served, once in a process as long as
// nobody but this user and root can change it. A damaged one is deleted and
// fetched again. On its first way from the source it passes through as it
// comes, and is checked by who reads it. So a directory that others can write
// to is trusted no more than the network.
//
// What is not named by its digest is kept by Keep alone, once whoever read it
// has verified it.
type Cache struct {
	cfg   CacheConfig
	index string // the directory of the source's documents
	known *sync.Map
}

const defaultCacheBytes = 2 << 30

// NewCache checks the configuration, and reads and makes nothing.
func NewCache(cfg CacheConfig) (*Cache, error) {
	if cfg.Dir == "" || cfg.Source == nil {
		return nil, errors.New("cache: give a directory and a source")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	cfg.Dir = dir
	cfg.Pull = cmp.Or(cfg.Pull, PullAlways)
	if p := cfg.Pull; p != PullAlways && p != PullIfNotPresent && p != PullNever {
		return nil, fmt.Errorf("cache: pull policy %q: want %s, %s or %s", p, PullAlways, PullIfNotPresent, PullNever)
	}
	if cfg.MaxBytes < 0 {
		return nil, fmt.Errorf("cache: MaxBytes is %d: want a positive number, or 0 for %d", cfg.MaxBytes, defaultCacheBytes)
	}
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, defaultCacheBytes)
	cfg.Fill = cmp.Or(cfg.Fill, "fill the cache first, by the same call with pull policy "+string(PullIfNotPresent))
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	id := sha256Hex([]byte(cfg.Source.String()))[:16]
	return &Cache{cfg: cfg, index: path.Join(documentsDir, id), known: new(sync.Map)}, nil
}

// String names the source and the cache.
func (c *Cache) String() string { return fmt.Sprintf("%s (cache %s)", c.cfg.Source, c.cfg.Dir) }

// Open implements Source.
func (c *Cache) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if err := checkPath(name); err != nil {
		return nil, 0, err
	}
	if offset < 0 {
		return nil, 0, fmt.Errorf("%s: offset %d is negative", name, offset)
	}
	if digest := contentDigest(name); digest != "" {
		return c.openContent(ctx, name, digest, offset)
	}
	return c.openDocument(ctx, name, offset)
}

// contentDigest returns the digest that a path is named by, empty if it names
// something else, such as a signature.
func contentDigest(name string) string {
	dir, base := path.Split(name)
	switch dir {
	case "manifests/sha256/":
		base, _ = strings.CutSuffix(base, ".json")
	case "blobs/sha256/":
	default:
		return ""
	}
	if !ident.SHA256(base) {
		return ""
	}
	return base
}

// openContent serves what has been verified; what is not there comes from
// the source and is kept on the way.
func (c *Cache) openContent(ctx context.Context, name, digest string, offset int64) (io.ReadCloser, int64, error) {
	body, size, err := c.entry(ctx, digest, offset)
	if err == nil || ctx.Err() != nil {
		return body, size, err
	}
	if c.cfg.Pull == PullNever {
		return nil, 0, c.notCached(name, err)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		c.cfg.Logger.Warn("cached file cannot be used", "digest", digest, "error", err)
	}
	return c.fill(ctx, name, digest, offset)
}

// openDocument serves what Keep has kept, where the policy allows.
func (c *Cache) openDocument(ctx context.Context, name string, offset int64) (io.ReadCloser, int64, error) {
	if c.cfg.Pull == PullAlways {
		return c.cfg.Source.Open(ctx, name, offset)
	}
	body, size, err := c.document(ctx, name, offset)
	if err == nil || errors.Is(err, errOtherName) {
		return body, size, err
	}
	if c.cfg.Pull == PullNever {
		return nil, 0, c.notCached(name, err)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		c.cfg.Logger.Warn("kept document cannot be used", "path", name, "error", err)
	}
	return c.cfg.Source.Open(ctx, name, offset)
}

// notCached does not wrap fs.ErrNotExist: the source may well have the file.
func (c *Cache) notCached(name string, cause error) error {
	return fmt.Errorf("%w: %s of %s (%v), and pull policy %s forbids to ask: %s", ErrNotCached, name, c, cause, PullNever, c.cfg.Fill) //nolint:errorlint // see above
}

// Fresh returns a source that asks anew for what this one may have kept; nil
// where this one does so anyhow. Under PullNever it is an error that says
// what to do instead.
func (c *Cache) Fresh() (Source, error) {
	switch c.cfg.Pull {
	case PullAlways:
	case PullIfNotPresent:
		fresh := *c
		fresh.cfg.Pull = PullAlways
		return &fresh, nil
	case PullNever:
		return nil, fmt.Errorf("that is what %s holds, and pull policy %s forbids to ask anew: %s", c, PullNever, c.cfg.Fill)
	}
	return nil, nil //nolint:nilnil // documented
}
