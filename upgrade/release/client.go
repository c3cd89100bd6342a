package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
)

// ClientConfig configures a Client. Source, Trust and Name are required.
type ClientConfig struct {
	// Source is the repository.
	Source Source
	// Trust holds the keys whose signatures count.
	Trust Trust
	// Name is the program whose releases are wanted.
	Name string
	// StateFile is trust.json in the state directory: the highest sequence
	// and the latest time seen. Empty keeps both in memory only, for tools
	// that decide nothing on a host.
	StateFile string
	// OS and Arch choose the binary; default runtime.GOOS and GOARCH.
	OS, Arch string
	// Now is the clock; default time.Now.
	Now func() time.Time
	// MemoryLimit bounds, in bytes, what making a binary from a delta may
	// take; a delta that takes more is passed over. Default 256 MiB, or half
	// of what the system and the cgroup have left where that is less; below 0
	// no deltas are used.
	MemoryLimit int64
	// Logger receives why a smaller form of a binary was not used; nil
	// discards it.
	Logger *slog.Logger
}

// Client reads releases from a repository that it does not trust. Nothing
// that it returns has been taken without the signature, sequence, expiry and
// digest that bind it. It is safe for concurrent use.
//
// Several processes may use one StateFile: it is read before each decision
// and replaced as a whole.
type Client struct {
	cfg ClientConfig

	mu    sync.Mutex
	state trustState // what this client has accepted, also without a file
}

// NewClient checks the configuration and reads nothing.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Source == nil {
		return nil, errors.New("no repository is configured: give a directory or URL")
	}
	if len(cfg.Trust.Keys) == 0 {
		return nil, fmt.Errorf("%w: no trusted key is configured: give the release.pub of the publisher", ErrUntrusted)
	}
	if err := checkName(cfg.Name); err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	cfg.Trust = cfg.Trust.clone()
	cfg.OS, cfg.Arch = cmp.Or(cfg.OS, runtime.GOOS), cmp.Or(cfg.Arch, runtime.GOARCH)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: cfg}, nil
}

// Index fetches the current index and returns it once its signature, name,
// sequence and expiry have been checked and the sequence has been saved. Its
// error wraps ErrUntrusted, ErrReplay, ErrExpired, ErrNotFound or ErrNoSpace
// where one of them is the cause.
func (c *Client) Index(ctx context.Context) (*Index, error) {
	x, err := c.index(ctx)
	return x, wrap("read index of", c.cfg.Name, err)
}

func (c *Client) index(ctx context.Context) (*Index, error) {
	raw, err := readIndex(ctx, c.cfg.Source, c.cfg.Trust)
	if err != nil {
		return nil, err
	}
	x, err := ParseIndex(raw)
	if err != nil {
		return nil, fmt.Errorf("%s in %s is signed, but cannot be used: %w", indexPath, c.cfg.Source, err)
	}
	if x.Name != c.cfg.Name {
		return nil, fmt.Errorf("%w: wanted the index of %s, %s holds the signed index of %s: give the repository of %s", ErrUntrusted, c.cfg.Name, c.cfg.Source, x.Name, c.cfg.Name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.remember(x, sha256Hex(raw)); err != nil {
		return nil, err
	}
	return x, nil
}

// remember checks the index against what this host has seen, and saves it.
func (c *Client) remember(x *Index, digest string) error {
	saved, err := readTrustState(c.cfg.StateFile)
	if err != nil {
		return err
	}
	// The file may have been deleted on purpose while this client lives:
	// then it is the file that counts.
	if c.cfg.StateFile == "" {
		saved = c.state
	}
	clock := c.cfg.Now()
	if err := saved.check(x, digest, clock); err != nil {
		return err
	}
	next, changed := saved.accept(x, digest, clock)
	if changed {
		if err := next.write(c.cfg.StateFile); err != nil {
			return err
		}
	}
	c.state = next
	return nil
}

// Resolve pins an exact version of the signed index. Beyond the errors of
// Index it returns ErrFloatingTag, ErrYanked, and ErrNotFound with the
// nearest versions.
func (c *Client) Resolve(ctx context.Context, version string) (Pin, error) {
	if _, err := ParseVersion(version); err != nil {
		return Pin{}, wrap("resolve version", version, err)
	}
	x, err := c.index(ctx)
	if err != nil {
		return Pin{}, wrap("resolve version", version, err)
	}
	e, err := x.Find(version)
	if err != nil {
		return Pin{}, wrap("resolve version", version, err)
	}
	return e.Pin(), nil
}

// Manifest fetches the manifest that pin names. The pin must be the one that
// the current signed index gives for its version, and the manifest must be
// signed for this program and that version. The raw bytes and the signature
// are returned so that they can be kept beside the binary.
func (c *Client) Manifest(ctx context.Context, pin Pin) (m *Manifest, raw, signature []byte, err error) {
	m, raw, signature, err = c.manifest(ctx, pin)
	return m, raw, signature, wrap("read manifest of", c.cfg.Name+" "+pin.Version, err)
}

func (c *Client) manifest(ctx context.Context, pin Pin) (m *Manifest, raw, signature []byte, err error) {
	if err := pin.Validate(); err != nil {
		return nil, nil, nil, err
	}
	x, err := c.index(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	e, err := x.Find(pin.Version)
	if err != nil {
		return nil, nil, nil, err
	}
	if e.Pin() != pin {
		return nil, nil, nil, fmt.Errorf("%w: the order pins %s, the signed index lists %s: resolve the version again and order that", ErrDigest, pin, e.Pin())
	}
	raw, err = readSmall(ctx, c.cfg.Source, manifestPath(e.Manifest), e.Size)
	if errors.Is(err, errTooLarge) {
		return nil, nil, nil, fmt.Errorf("%w: the manifest of %s in %s is not the one in the signed index: %w", ErrDigest, pin.Version, c.cfg.Source, err)
	}
	if err != nil {
		return nil, nil, nil, absent(err, c.cfg.Source)
	}
	if got := sha256Hex(raw); got != e.Manifest {
		return nil, nil, nil, fmt.Errorf("%w: the manifest of %s in %s is sha256:%s (%d bytes), the signed index lists sha256:%s (%d bytes): the repository is damaged or altered; publish the release again", ErrDigest, pin.Version, c.cfg.Source, got, len(raw), e.Manifest, e.Size)
	}
	signature, err = readSignature(ctx, c.cfg.Source, manifestPath(e.Manifest)+signatureSuffix)
	if err != nil {
		return nil, nil, nil, err
	}
	m, err = c.cfg.Trust.VerifyManifest(c.cfg.Name, pin.Version, raw, signature)
	if err != nil {
		return nil, nil, nil, err
	}
	return m, raw, signature, nil
}

// indexAttempts is how often the index is read until it matches a signature.
const indexAttempts = 3

// readIndex reads the index with a signature that covers it. The publisher
// replaces index.json by one rename, and the signature for exactly those
// bytes lies under their digest by then. Repositories laid out by hand have
// index.json.minisig alone, which is replaced a moment later: hence the
// attempts.
func readIndex(ctx context.Context, src Source, trust Trust) ([]byte, error) {
	wait := backoff.Backoff{Min: 50 * time.Millisecond, Max: 500 * time.Millisecond}
	for attempt := 1; ; attempt++ {
		raw, err := readSmall(ctx, src, indexPath, MaxIndexSize)
		if err != nil {
			return nil, absent(err, src)
		}
		err = verifyIndex(ctx, src, trust, raw)
		if err == nil {
			return raw, nil
		}
		if attempt == indexAttempts || !errors.Is(err, ErrUntrusted) {
			return nil, err
		}
		if err := wait.Wait(ctx); err != nil {
			return nil, err
		}
	}
}

// verifyIndex tries the signature beside the index, then the one under its
// digest. When neither will do, the error is about the first that was found.
func verifyIndex(ctx context.Context, src Source, trust Trust, raw []byte) error {
	var first error
	for _, path := range []string{indexPath + signatureSuffix, indexSignaturePath(sha256Hex(raw))} {
		signature, err := readSignature(ctx, src, path)
		if err == nil {
			err = trust.Verify(raw, signature)
		}
		if err == nil {
			return nil
		}
		if first == nil || errors.Is(first, fs.ErrNotExist) && !errors.Is(err, fs.ErrNotExist) {
			first = err
		}
		if !errors.Is(err, ErrUntrusted) {
			return err
		}
	}
	return fmt.Errorf("%s in %s: %w", indexPath, src, first)
}

// readSignature treats an absent signature as what it is: unsigned data.
func readSignature(ctx context.Context, src Source, path string) ([]byte, error) {
	signature, err := readSmall(ctx, src, path, maxSignatureSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: it is not signed (%w): publish it with release build and the release key", ErrUntrusted, err)
	}
	if errors.Is(err, errTooLarge) {
		return nil, fmt.Errorf("%w: what lies there is no signature: %w: publish the file again", ErrUntrusted, err)
	}
	return signature, err
}

// absent turns a missing file into ErrNotFound with advice.
func absent(err error, src Source) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w: check that %s is the repository and that it is complete", ErrNotFound, err, src)
	}
	return err
}
