package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/boundedio"
)

// Verification is what a check of a whole repository found.
type Verification struct {
	// Name is the program.
	Name string `json:"name"`
	// Index is the index; absent in JSON, and the zero value, if it cannot be
	// read or is not signed by a key that counts.
	Index IndexState `json:"index,omitzero"`
	// Releases, Files and Bytes were looked at; a file that several releases
	// share counts once.
	Releases int   `json:"releases"`
	Files    int   `json:"files"`
	Bytes    int64 `json:"bytes"`
	// Damage is what is wrong, empty in a good repository.
	Damage []Damage `json:"damage,omitempty"`
}

// Damage is one thing that is wrong with a repository.
type Damage struct {
	// Release is the version concerned; empty for the index.
	Release string `json:"release,omitempty"`
	// Path is the file in the repository.
	Path string `json:"path"`
	// Problem is what was wanted and found.
	Problem string `json:"problem"`
	// Mend is what to do.
	Mend string `json:"mend"`
}

// Ways to mend.
const (
	mendPushed   = "; in a registry or layout, push the directory again (release push --repair)"
	mendIndex    = "restore index.json and index.json.minisig from a backup or a mirror; if the last change is lost with that, publish it again"
	mendKeyring  = "have the roots sign a keyring (keys sign) and install it (keys install)"
	mendExpiry   = "sign the index anew (release refresh)"
	mendCopy     = "sign the index anew (release refresh), which writes it again; hosts use the copy under indexes/"
	mendManifest = "publish the same files and the same SOURCE_DATE_EPOCH again (release build), which writes it anew if nothing else changed; else restore it from a backup or a mirror, or yank the release" + mendPushed
	mendSigned   = "publish the same release again (release build), which signs it anew" + mendPushed
	mendBlob     = "publish the same release again (release build), which writes it anew, or restore it from a backup or a mirror" + mendPushed
	mendForeign  = "yank the release: what was signed is of something else, and hosts refuse it"
	mendSource   = "find out why the repository does not answer, and verify again"
)

// Verify reads a whole repository and checks all of it: the index with its
// signature, sequence and expiry, and for every release, withdrawn ones too,
// the manifest, its signature, and each binary, encoding and delta. What is
// wrong is in the result; the error is about what kept the check from being
// made, such as ctx.
//
// It remembers nothing: the client's StateFile is compared with and not
// written.
func (c *Client) Verify(ctx context.Context) (*Verification, error) {
	v := &inspection{Client: c, seen: map[string]error{}}
	v.found.Name = c.cfg.Name
	var x *Index
	if v.signers(ctx) {
		x = v.index(ctx)
	}
	if x != nil {
		for _, e := range x.Releases {
			v.release(ctx, e)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, wrap("verify repository of", c.cfg.Name, err)
	}
	return &v.found, nil
}

// inspection is one check of a repository.
type inspection struct {
	*Client
	found Verification
	seen  map[string]error // what is known of a blob
	keys  signers
}

func (v *inspection) damaged(release, path string, err error, mend string) {
	v.found.Damage = append(v.found.Damage, Damage{Release: release, Path: path, Problem: err.Error(), Mend: mend})
}

// unread is damaged for a file that could not be read, where the cause may
// also lie on the way to it.
func (v *inspection) unread(release, path string, err error, mend string) {
	if !spoilt(err) {
		mend = mendSource
	}
	v.damaged(release, path, err, mend)
}

// spoilt reports whether err tells of the file, and not of the way to it.
func spoilt(err error) bool {
	for _, cause := range []error{fs.ErrNotExist, ErrUntrusted, ErrDigest, boundedio.ErrTooLarge, io.ErrUnexpectedEOF} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// signers finds out whose signatures count; false if nothing can be checked
// without.
func (v *inspection) signers(ctx context.Context) bool {
	if len(v.cfg.Trust.Roots) == 0 {
		v.keys = v.cfg.Trust
		return true
	}
	found, err := readKeyring(ctx, v.cfg.Source, v.cfg.Trust, nil)
	if err == nil && found == nil {
		err = fmt.Errorf("hosts that trust roots want a keyring: %w", fs.ErrNotExist)
	}
	if err != nil {
		v.unread("", keyringPath, err, mendKeyring)
		return false
	}
	v.count(int64(len(found.Document)))
	k := found.parsed
	// One that cannot be read is told with the index.
	saved, _ := readTrustState(v.cfg.StateFile)
	inForce, _ := saved.keyring(v.cfg.Trust)
	if k.Name != v.cfg.Name {
		err = fmt.Errorf("%w: wanted the keyring of %s, found the signed keyring of %s", ErrUntrusted, v.cfg.Name, k.Name)
	} else if inForce != nil && k.Sequence < inForce.Sequence {
		err = fmt.Errorf("%w: found keyring %d, this host has accepted %d", ErrReplay, k.Sequence, inForce.Sequence)
	} else if inForce != nil && k.Sequence == inForce.Sequence && !bytes.Equal(found.Document, saved.Keyring.Document) {
		err = fmt.Errorf("%w: two different keyrings are signed with sequence %d", ErrReplay, k.Sequence)
	} else if now := saved.now(v.cfg.Now()); !now.Before(k.Expires) {
		err = fmt.Errorf("%w: keyring %d expired at %s", ErrExpired, k.Sequence, stamp(k.Expires))
	}
	if err != nil {
		v.damaged("", keyringPath, err, mendKeyring)
	}
	v.keys = k.withRevoked(saved)
	return true
}

// current checks a signature that must count now.
func (v *inspection) current(message, signature []byte) error {
	return v.keys.verifyAt(message, signature, v.now())
}

// index returns nil if nothing is to be learnt from the index.
func (v *inspection) index(ctx context.Context) *Index {
	raw, _, err := readIndex(ctx, v.cfg.Source, v.current)
	if err != nil {
		v.unread("", indexPath, err, mendIndex)
		return nil
	}
	v.count(int64(len(raw)))
	x, err := ParseIndex(raw)
	if err == nil && x.Name != v.cfg.Name {
		err = fmt.Errorf("%w: wanted the index of %s, found the signed index of %s", ErrUntrusted, v.cfg.Name, x.Name)
	}
	if err != nil {
		v.damaged("", indexPath, err, mendIndex)
		return nil
	}
	v.found.Index, v.found.Releases = IndexState{x.Sequence, x.Issued, x.Expires}, len(x.Releases)
	saved, err := readTrustState(v.cfg.StateFile)
	if k, ok := v.keys.(*Keyring); ok {
		saved = saved.forget(k)
	}
	if err == nil {
		err = saved.check(x, sha256Hex(raw), v.cfg.Now())
	}
	if err != nil {
		mend := mendIndex
		if errors.Is(err, ErrExpired) {
			mend = mendExpiry
		}
		v.damaged("", indexPath, err, mend)
	}
	// People and other tools look beside the index, hosts also elsewhere.
	signature, err := readSignature(ctx, v.cfg.Source, indexPath+signatureSuffix)
	if err == nil {
		err = v.current(raw, signature)
	}
	if err != nil {
		v.unread("", indexPath+signatureSuffix, err, mendCopy)
	}
	for _, e := range x.Releases {
		if twin := x.twin(e.Version); twin != "" {
			v.damaged(e.Version, indexPath, fmt.Errorf("%s differs from it in build metadata only, so that neither is newer", twin), "yank one of the two")
		}
	}
	return x
}

func (v *inspection) release(ctx context.Context, e IndexEntry) {
	if ctx.Err() != nil {
		return
	}
	path := manifestPath(e.Manifest)
	raw, err := readSmall(ctx, v.cfg.Source, path, e.Size)
	if err == nil {
		v.count(int64(len(raw)))
		if got := sha256Hex(raw); got != e.Manifest {
			err = fmt.Errorf("%w: want the listed sha256:%s (%d bytes), found sha256:%s (%d bytes)", ErrDigest, e.Manifest, e.Size, got, len(raw))
		}
	}
	if err != nil {
		v.unread(e.Version, path, err, mendManifest)
		return
	}
	m, err := ParseManifest(raw)
	if err == nil && (m.Name != v.cfg.Name || m.Version != e.Version) {
		err = fmt.Errorf("%w: want the manifest of %s %s, found that of %s %s", ErrUntrusted, v.cfg.Name, e.Version, m.Name, m.Version)
	}
	if err != nil {
		v.damaged(e.Version, path, err, mendForeign)
		return
	}
	signature, err := readSignature(ctx, v.cfg.Source, path+signatureSuffix)
	if err == nil {
		_, err = v.keys.VerifyManifest(m.Name, m.Version, raw, signature)
	}
	// Nobody takes a withdrawn release, and nobody could sign it anew.
	if err != nil && (e.Yanked == "" || !errors.Is(err, ErrRevoked)) {
		v.unread(e.Version, path+signatureSuffix, err, mendSigned)
	}
	for _, p := range m.Platforms {
		v.blob(ctx, e.Version, "the binary for "+p.String(), p.SHA256, p.Size)
		for _, enc := range p.Encodings {
			v.blob(ctx, e.Version, "the "+enc.Format+" encoding for "+p.String(), enc.SHA256, enc.Size)
		}
		for _, d := range p.Deltas {
			v.blob(ctx, e.Version, fmt.Sprintf("the %s delta from %.12s for %s", d.Format, d.From, p), d.SHA256, d.Size)
		}
	}
}

// blob checks one file by its digest, each once.
func (v *inspection) blob(ctx context.Context, release, what, digest string, size int64) {
	key := fmt.Sprint(digest, size)
	err, known := v.seen[key]
	if !known {
		var n int64
		if n, err = v.readBlob(ctx, digest, size); err == nil {
			v.count(n)
		}
		v.seen[key] = err
	}
	if err != nil && ctx.Err() == nil {
		v.unread(release, blobPath(digest), fmt.Errorf("%s: %w", what, err), mendBlob)
	}
}

func (v *inspection) readBlob(ctx context.Context, digest string, size int64) (n int64, err error) {
	body, total, err := v.cfg.Source.Open(ctx, blobPath(digest), 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	if total >= 0 && total != size {
		return 0, fmt.Errorf("%w: want the signed %d bytes, found %d", ErrDigest, size, total)
	}
	sum := sha256.New()
	if n, err = io.Copy(sum, io.LimitReader(body, size+1)); err != nil {
		return n, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != size || got != digest {
		return n, fmt.Errorf("%w: want the signed sha256:%s (%d bytes), found sha256:%s (%d bytes)", ErrDigest, digest, size, got, n)
	}
	return n, nil
}

func (v *inspection) count(bytes int64) {
	v.found.Files++
	v.found.Bytes += bytes
}

// String puts the result into words, one line a damage.
func (v *Verification) String() string {
	var b strings.Builder
	if v.Index.Sequence > 0 {
		fmt.Fprintf(&b, "%s: index %d, %d releases, %d files, %d bytes, expires %s",
			v.Name, v.Index.Sequence, v.Releases, v.Files, v.Bytes, v.Index.Expires.UTC().Format(time.RFC3339))
	} else {
		fmt.Fprintf(&b, "%s: no index that can be read and trusted, so that no release was looked at", v.Name)
	}
	for _, d := range v.Damage {
		fmt.Fprintf(&b, "\n%s", d.Path)
		if d.Release != "" {
			fmt.Fprintf(&b, " of %s", d.Release)
		}
		fmt.Fprintf(&b, ": %s: %s", strings.ReplaceAll(d.Problem, "\n", "; "), d.Mend)
	}
	return b.String()
}
