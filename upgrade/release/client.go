package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/boundedio"
)

// ClientConfig configures a Client. Source, Trust and Name are required.
type ClientConfig struct {
	// Source is the repository.
	Source Source
	// Trust holds the keys whose signatures count, or the roots whose keyring
	// lists them.
	Trust Trust
	// Name is the program whose releases are wanted.
	Name string
	// StateFile is trust.json in the state directory: the highest sequence,
	// the latest time seen and the keyring in force. Empty keeps both in memory only, for tools
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
// Several processes may use one StateFile: it is read before each decision,
// read again under a lock before it is written, and replaced as a whole.
type Client struct {
	cfg ClientConfig

	mu    sync.Mutex
	state trustState // what this client has accepted, also without a file

	// accepted is written with mu held, and read without: whoever asks for it
	// waits neither for a disk nor for another process.
	accepted atomic.Pointer[Index]

	parsed parsedIndex
}

// NewClient checks the configuration and reads nothing.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Source == nil {
		return nil, errors.New("no repository is configured: give a directory or URL")
	}
	if err := cfg.Trust.validate(); err != nil {
		return nil, err
	}
	if err := CheckName(cfg.Name); err != nil {
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
	x, err := asking(ctx, c.cfg.Source, func(src Source) (*Index, error) { return c.index(ctx, src) })
	return x, wrap("read index of", c.cfg.Name, err)
}

// FreshIndex is Index that asks the repository also where a Cache would answer
// from what it has kept, so that a withdrawal or a revocation is heard although
// that will do. Under PullNever it is Index. What is kept is accepted before: it
// is what Accepted returns while the repository is away.
func (c *Client) FreshIndex(ctx context.Context) (*Index, error) {
	fresh, ok := renewed(c.cfg.Source)
	if !ok {
		return c.Index(ctx)
	}
	_, _ = c.index(ctx, c.cfg.Source) // may lack anything: the repository is asked next
	x, err := c.index(ctx, fresh)
	return x, wrap("read index of", c.cfg.Name, err)
}

func (c *Client) index(ctx context.Context, src Source) (*Index, error) {
	x, _, err := c.current(ctx, src)
	return x, err
}

// current returns the current index and whose signatures count besides.
func (c *Client) current(ctx context.Context, src Source) (*Index, signers, error) {
	keys, err := c.signers(ctx, src)
	if err != nil {
		return nil, nil, err
	}
	x, err := c.indexBy(ctx, src, keys)
	if used, ok := keys.(*Keyring); ok && errors.Is(err, ErrUntrusted) {
		// A keyring, and an index by a key that it adds, may have been
		// published since the keyring was read.
		if again, readErr := c.keyring(ctx, src); readErr == nil && again.Sequence != used.Sequence {
			keys = again
			x, err = c.indexBy(ctx, src, keys)
		}
	}
	return x, keys, err
}

// indexBy reads an index that one of keys has signed.
func (c *Client) indexBy(ctx context.Context, src Source, keys signers) (*Index, error) {
	raw, signature, err := readIndex(ctx, src, func(message, signature []byte) error {
		return keys.verifyAt(message, signature, c.now())
	})
	if err != nil {
		return nil, err
	}
	digest := sha256Hex(raw)
	x, err := c.parsed.index(raw, digest)
	if err != nil {
		return nil, fmt.Errorf("%s in %s is signed, but cannot be used: %w", indexPath, src, err)
	}
	if x.Name != c.cfg.Name {
		return nil, fmt.Errorf("%w: wanted the index of %s, %s holds the signed index of %s: give the repository of %s, or, if %s is meant, its name (--name)", ErrUntrusted, c.cfg.Name, src, x.Name, c.cfg.Name, x.Name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.remember(ctx, x, digest, keys, signature); err != nil {
		return nil, err
	}
	keep(src, document{indexSignaturePath(digest), signature}, document{indexPath, raw})
	return x, nil
}

// remember checks the index against what this host has seen, and saves it; c.mu
// must be held.
func (c *Client) remember(ctx context.Context, x *Index, digest string, keys signers, signature []byte) error {
	clock := c.cfg.Now()
	next, err := c.update(ctx, func(saved trustState) (trustState, bool, error) {
		return saved.take(x, digest, keys, signature, clock)
	})
	if err != nil {
		return err
	}
	c.state = next
	kept := *x
	kept.Releases = slices.Clone(x.Releases) // x goes to a caller
	c.accepted.Store(&kept)
	return nil
}

// Accepted returns the index that this client has accepted last, nil before
// the first. It asks nobody and waits for nothing, and the index may have expired
// since.
func (c *Client) Accepted() *Index {
	kept := c.accepted.Load()
	if kept == nil {
		return nil
	}
	x := *kept
	x.Releases = slices.Clone(x.Releases)
	return &x
}

// Resolve pins an exact version of the signed index. Beyond the errors of
// Index it returns ErrFloatingTag, ErrYanked, and ErrNotFound with the
// nearest versions.
func (c *Client) Resolve(ctx context.Context, version string) (Pin, error) {
	if _, err := ParseVersion(version); err != nil {
		return Pin{}, wrap("resolve version", version, err)
	}
	pin, err := asking(ctx, c.cfg.Source, func(src Source) (Pin, error) {
		x, err := c.index(ctx, src)
		if err != nil {
			return Pin{}, err
		}
		e, err := x.Find(version)
		return e.Pin(), err
	})
	if err != nil {
		return Pin{}, wrap("resolve version", version, err)
	}
	return pin, nil
}

// Manifest fetches the manifest that pin names. The pin must be the one that
// the current signed index gives for its version, and the manifest must be
// signed for this program and that version. The raw bytes and the signature
// are returned so that they can be kept beside the binary.
func (c *Client) Manifest(ctx context.Context, pin Pin) (m *Manifest, raw, signature []byte, err error) {
	_, err = asking(ctx, c.cfg.Source, func(src Source) (_ struct{}, err error) {
		m, raw, signature, err = c.manifest(ctx, src, pin)
		return struct{}{}, err
	})
	return m, raw, signature, wrap("read manifest of", c.cfg.Name+" "+pin.Version, err)
}

func (c *Client) manifest(ctx context.Context, src Source, pin Pin) (m *Manifest, raw, signature []byte, err error) {
	if err := pin.Validate(); err != nil {
		return nil, nil, nil, err
	}
	x, keys, err := c.current(ctx, src)
	if err != nil {
		return nil, nil, nil, err
	}
	e, err := x.Find(pin.Version)
	if err != nil {
		return nil, nil, nil, err
	}
	if e.Pin() != pin {
		return nil, nil, nil, fmt.Errorf("%w: the order pins %s, the signed index of %s lists %s: resolve the version again (release resolve) and order that, or, if it is a release of another program, order it of a host that runs that", ErrDigest, pin, x.Name, e.Pin())
	}
	return c.listed(ctx, src, keys, e)
}

// listed fetches and verifies the manifest of an entry of the signed index.
func (c *Client) listed(ctx context.Context, src Source, keys signers, e IndexEntry) (m *Manifest, raw, signature []byte, err error) {
	raw, err = readSmall(ctx, src, manifestPath(e.Manifest), e.Size)
	if errors.Is(err, boundedio.ErrTooLarge) {
		return nil, nil, nil, fmt.Errorf("%w: the manifest of %s in %s is not the one in the signed index: %w", ErrDigest, e.Version, src, err)
	}
	if err != nil {
		return nil, nil, nil, absent(err, src)
	}
	if got := sha256Hex(raw); got != e.Manifest {
		return nil, nil, nil, fmt.Errorf("%w: the manifest of %s in %s is sha256:%s (%d bytes), the signed index lists sha256:%s (%d bytes): the repository is damaged or altered; publish the release again", ErrDigest, e.Version, src, got, len(raw), e.Manifest, e.Size)
	}
	signature, err = readSignature(ctx, src, manifestPath(e.Manifest)+signatureSuffix)
	if err != nil {
		return nil, nil, nil, err
	}
	m, err = keys.VerifyManifest(c.cfg.Name, e.Version, raw, signature)
	if err != nil {
		return nil, nil, nil, err
	}
	keep(src, document{manifestPath(e.Manifest) + signatureSuffix, signature})
	return m, raw, signature, nil
}

// indexAttempts is how often the index is read until it matches a signature.
const indexAttempts = 3

// readIndex reads the index with a signature that covers it. The publisher
// replaces index.json by one rename, and the signature for exactly those
// bytes lies under their digest by then. Repositories laid out by hand have
// index.json.minisig alone, which is replaced a moment later: hence the
// attempts.
func readIndex(ctx context.Context, src Source, verify verifier) (raw, signature []byte, err error) {
	wait := backoff.Backoff{Min: 50 * time.Millisecond, Max: 500 * time.Millisecond}
	for attempt := 1; ; attempt++ {
		raw, err = readSmall(ctx, src, indexPath, MaxIndexSize)
		if err != nil {
			return nil, nil, absent(err, src)
		}
		signature, err = verifyIndex(ctx, src, verify, raw)
		if err == nil {
			return raw, signature, nil
		}
		if other := misplaced(src); other != nil {
			return nil, nil, other
		}
		if attempt == indexAttempts || !errors.Is(err, ErrUntrusted) {
			return nil, nil, err
		}
		if err := wait.Wait(ctx); err != nil {
			return nil, nil, err
		}
	}
}

// verifyIndex returns the signature that is good: the one beside the index, or
// the one under its digest. When neither will do, the error is about the first
// that was found.
func verifyIndex(ctx context.Context, src Source, verify verifier, raw []byte) (signature []byte, err error) {
	var first error
	for _, path := range []string{indexPath + signatureSuffix, indexSignaturePath(sha256Hex(raw))} {
		signature, err = readSignature(ctx, src, path)
		if err == nil {
			err = verify(raw, signature)
		}
		if err == nil {
			return signature, nil
		}
		if first == nil || errors.Is(first, fs.ErrNotExist) && !errors.Is(err, fs.ErrNotExist) {
			first = err
		}
		if !errors.Is(err, ErrUntrusted) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s in %s: %w", indexPath, src, first)
}

// readSignature treats an absent signature as what it is: unsigned data.
func readSignature(ctx context.Context, src Source, path string) ([]byte, error) {
	signature, err := readSmall(ctx, src, path, maxSignatureSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: it is not signed (%w): publish it with release build and the release key", ErrUntrusted, err)
	}
	if errors.Is(err, boundedio.ErrTooLarge) {
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
