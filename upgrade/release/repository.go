package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"aead.dev/minisign"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/disk"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/filelock"
)

// RepositoryConfig configures a Repository. Dir and Key are required.
type RepositoryConfig struct {
	// Dir is the repository's directory; Publish makes it.
	Dir string
	// Key signs the index and the manifests.
	Key minisign.PrivateKey
	// Trust.Keys are further keys whose index may be extended, for a change
	// of keys. The public half of Key always may. With Trust.Roots the
	// repository must have a keyring signed by them, and an index by any of
	// its keys may be extended.
	//
	// A keyring in Dir that does not list Key, or revokes it, refuses
	// everything, also without Roots: hosts would refuse what is published.
	Trust Trust
	// Validity is how long hosts take an index for current after it was
	// signed; default 90 days. Publish, Yank and Refresh start it anew.
	Validity time.Duration
	// StateDir is a directory outside of Dir, this publisher's and this
	// repository's own, in which it remembers the newest index that it has
	// signed; it is made with mode 0700. What would extend an older index is
	// then refused with ErrReplay: it was signed as well, and whoever can write
	// to Dir could put it back. A repository that is begun anew goes on above
	// what is remembered. Several publishers remember each for itself. Empty
	// remembers nothing.
	StateDir string
	// StateReadOnly writes nothing to StateDir, for a publisher that cannot.
	// What is remembered there holds all the same.
	StateReadOnly bool
	// AcceptOlder takes the index as it stands in Dir, also where StateDir
	// remembers a newer one. The next sequence follows what is remembered, so
	// that hosts which have seen that accept it.
	AcceptOlder bool
	// Now is the clock; default time.Now.
	Now func() time.Time
	// PlainOnly leaves out the smaller forms of binaries, zstd and deltas:
	// a release is published as fast as it can be copied.
	PlainOnly bool
	// Differs make deltas beside zstd's, which are always made; bsdiff.Differ
	// is one. See Release.DeltaFrom.
	Differs []Differ
}

// Repository writes signed releases into a directory, which hosts read
// directly or through any web server that serves files.
//
// Any number of processes may publish to one directory at a time: a lock
// file puts them in order, on local file systems and on network ones with
// working flock. Readers need no lock. A publisher that dies at any instant
// leaves a repository that reads as before or as after; at most files that
// nothing refers to remain.
type Repository struct{ cfg RepositoryConfig }

// Release is what Publish adds.
type Release struct {
	// Name is the program, the same for every release of a repository.
	Name string
	// Version is an exact SemVer version that the index does not have yet.
	Version string
	// Requires holds constraints on hosts, each of at most 1 KiB; the zero
	// value has none.
	Requires Requires
	// Revision is the source revision, for people; default the commit that
	// all binaries tell of, with +dirty if the tree had changes. At most 256
	// bytes, printable.
	Revision string
	// Annotations are free text for people and other tools: at most 64, names
	// and values of at most 1 KiB.
	Annotations map[string]string
	// Binaries holds at least one binary, at most one a platform.
	Binaries []Binary
	// Created is when the release was built; default the time of the commit
	// that all binaries tell of, so that the same binaries make the same
	// manifest, and now if there is none or the tree had changes.
	Created time.Time
	// DeltaFrom is from how many releases there are to be deltas, at most 16:
	// the highest versions below this one that are not withdrawn, and as many
	// withdrawn ones at most that are newer than the last of those, and for a
	// release that is no pre-release without pre-releases, as far as
	// their binaries are in the repository and deltas are smaller than the
	// whole compressed. Making one takes both binaries in memory and as much
	// as its Differ says.
	DeltaFrom int
	// Progress is called with a line for people after each step that takes
	// long, and where a repository is begun anew. May be nil.
	Progress func(string)
}

// Binary is a file for one platform.
type Binary struct {
	// OS and Arch are GOOS and GOARCH values; default those of the caller.
	OS, Arch string
	// Path is the executable.
	Path string
}

const lockFile = ".lock"

// NewRepository checks the configuration and touches nothing.
func NewRepository(cfg RepositoryConfig) (*Repository, error) {
	dir, err := directory(cfg.Dir)
	if err != nil {
		return nil, err
	}
	public, err := publicKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	if cfg.Key.Equal(minisign.PrivateKey{}) {
		return nil, errors.New("repository has no release key: load one with LoadPrivateKey")
	}
	if cfg.Validity < 0 {
		return nil, fmt.Errorf("validity %v is negative", cfg.Validity)
	}
	if err := cfg.Trust.validateRoots(); err != nil {
		return nil, err
	}
	cfg.Dir = dir
	cfg.Validity = cmp.Or(cfg.Validity, 90*24*time.Hour)
	cfg.Trust = cfg.Trust.clone()
	cfg.Trust.Keys = append(cfg.Trust.Keys, public)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Repository{cfg: cfg}, nil
}

// Trust is what has to be trusted for all that the repository holds: the roots
// where they are configured, else the release key and those whose index it may
// extend.
func (r *Repository) Trust() Trust {
	if len(r.cfg.Trust.Roots) > 0 {
		return Trust{Roots: slices.Clone(r.cfg.Trust.Roots), Threshold: r.cfg.Trust.Threshold}
	}
	return Trust{Keys: slices.Clone(r.cfg.Trust.Keys)}
}

// Publish adds a release and returns its pin. A version is never replaced:
// publishing the same content again mends its files and what a publisher has
// left undone that died, signs its manifest anew if the keyring has revoked the
// key that signed it, and returns the pin that it has; anything else under a
// known version is an error and changes nothing that hosts read.
// Nor is a version published that differs from a known one in build metadata
// only. It waits for other publishers until ctx ends.
//
// The same binaries and fields give the same manifest, byte by byte, unless
// Created falls back to the clock.
func (r *Repository) Publish(ctx context.Context, rel Release) (Pin, error) {
	pin, err := r.publish(ctx, rel)
	return pin, wrap("publish", rel.Name+" "+rel.Version, err)
}

func (r *Repository) publish(ctx context.Context, rel Release) (pin Pin, err error) {
	if err := rel.Validate(); err != nil {
		return Pin{}, err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return Pin{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	found, err := r.load(ctx, rel.Name)
	if err != nil {
		return Pin{}, err
	}
	index, keyring := found.index, found.keyring
	m, err := r.describe(ctx, rel)
	if err != nil {
		return Pin{}, err
	}
	known := index.entry(rel.Version)
	if twin := index.twin(rel.Version); known == nil && twin != "" {
		return Pin{}, fmt.Errorf("the index has %s, which differs from %s in build metadata only, and build metadata makes no version newer: choose a new version", twin, rel.Version)
	}
	var published *Manifest
	if known != nil {
		if published, err = r.again(ctx, index, rel, m); err != nil {
			return Pin{}, err
		}
	}
	if known == nil { // what is published is judged by its own time: see mendSignature
		if err := r.mayRelease(keyring, m); err != nil {
			return Pin{}, err
		}
	}
	if err := r.storeBlobs(ctx, rel.Binaries, m); err != nil {
		return Pin{}, err
	}
	if known != nil {
		return known.Pin(), errors.Join(r.mendForms(ctx, published, rel.Progress), r.mendSignature(keyring, *known, published), r.mendIndex(found))
	}
	if err := r.encode(ctx, index, rel, m); err != nil {
		return Pin{}, err
	}
	entry, err := r.storeManifest(m)
	if err != nil {
		return Pin{}, err
	}
	index.Releases = append(index.Releases, entry)
	if err := r.tellBegunAnew(index, rel.Progress); err != nil {
		return Pin{}, err
	}
	if err := r.commit(index); err != nil {
		return Pin{}, err
	}
	return entry.Pin(), nil
}

// standing is what a publisher goes on from. Of a repository that is begun, index
// is empty, and the bytes are none.
type standing struct {
	index          *Index
	keyring        *Keyring
	raw, signature []byte
}

// load returns the index as it stands, or an empty one. It is verified
// before it is extended: otherwise whoever can write to the directory could
// have the release key sign what they put there. The lock must be held: between
// the index and what is remembered of it, another process could change both.
func (r *Repository) load(ctx context.Context, name string) (found standing, err error) {
	src, err := NewDir(r.cfg.Dir)
	if err != nil {
		return found, err
	}
	if found.keyring, err = r.keyring(ctx, src, name); err != nil {
		return found, err
	}
	found.raw, found.signature, err = readIndex(ctx, src, func(message, signature []byte) error { return r.mayExtend(found.keyring, message, signature) })
	switch {
	case errors.Is(err, ErrNotFound):
		found.index = &Index{Schema: Schema, Name: name}
		return found, r.checkRemembered(name, found.index, nil)
	case err != nil:
		return found, fmt.Errorf("the index that is there is not extended: %w", err)
	}
	x, err := ParseIndex(found.raw)
	if err != nil {
		return found, err
	}
	if x.Name != name {
		return found, fmt.Errorf("%w: %s is the repository of %s, the release is of %s: give each program a directory of its own, or, if %s is meant, its name (--name)", ErrUntrusted, r.cfg.Dir, x.Name, name, x.Name)
	}
	found.index = x
	return found, r.checkRemembered(name, x, found.raw)
}

// commit signs and writes the next state of the index. The rename of
// index.json is the one step that publishes; its signature is in place, under
// the digest, before that. The copy beside the index, which people and other
// tools look for, follows.
func (r *Repository) commit(x *Index) error {
	if err := r.follow(x); err != nil {
		return err
	}
	if x.Sequence >= maxSequence {
		return fmt.Errorf("sequence %d cannot grow any more: begin a new repository under a new key", x.Sequence)
	}
	now := r.cfg.Now().UTC().Truncate(time.Second)
	if now.Before(x.Issued) {
		now = x.Issued // the publisher's clock went back; the index must not
	}
	x.Schema = Schema
	x.Sequence++
	x.Issued, x.Expires = now, now.Add(r.cfg.Validity)
	x.sortReleases()
	raw, err := encodeDocument(x)
	if err != nil {
		return err
	}
	if _, err := ParseIndex(raw); err != nil {
		return fmt.Errorf("the next index would not be readable: %w", err)
	}
	digest := sha256Hex(raw)
	signature := sign(r.cfg.Key, raw, fmt.Sprintf("%s index %d", x.Name, x.Sequence))
	if err := r.write(indexSignaturePath(digest), signature); err != nil {
		return err
	}
	if err := failpoint.Hit("publish.index"); err != nil {
		return err
	}
	if err := r.retain("indexes", indexPath, MaxIndexSize); err != nil {
		return err
	}
	if err := r.write(indexPath, raw); err != nil {
		return err
	}
	if err := failpoint.Hit("publish.signature"); err != nil {
		return err
	}
	if err := r.write(indexPath+signatureSuffix, signature); err != nil {
		return err
	}
	return errors.Join(r.remember(x, raw), r.prune("indexes", digest+signatureSuffix))
}

// write replaces one file of the repository, readable for web servers.
func (r *Repository) write(path string, data []byte) error {
	full := filepath.Join(r.cfg.Dir, filepath.FromSlash(path))
	if err := r.makeDir(filepath.Dir(full)); err != nil {
		return writeError(err)
	}
	return writeError(atomicfile.Write(full, data, 0o644))
}

// makeDir makes a directory of the repository, at most two levels deep, and
// makes its entry as durable as what will be written into it.
func (r *Repository) makeDir(dir string) error {
	if dir == r.cfg.Dir {
		return nil
	}
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	return atomicfile.SyncDir(r.cfg.Dir)
}

// writeError names a full disk as what it is.
func writeError(err error) error {
	if disk.IsFull(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// lock waits for the other publishers of the directory.
func (r *Repository) lock(ctx context.Context) (unlock func() error, err error) {
	if err := os.MkdirAll(r.cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("repository directory: %w", writeError(err))
	}
	f, err := os.OpenFile(filepath.Join(r.cfg.Dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("repository %s cannot be written: %w", r.cfg.Dir, writeError(err))
	}
	switch err := filelock.Wait(ctx, f, 0); {
	case err == nil:
		// The lock goes with the descriptor, also when the process dies.
		return f.Close, nil
	case filelock.Held(err):
		return nil, errors.Join(fmt.Errorf("another process publishes to %s: %w: %w", r.cfg.Dir, ErrLocked, err), f.Close())
	default:
		return nil, errors.Join(fmt.Errorf("repository lock %s: %w", f.Name(), err), f.Close())
	}
}
