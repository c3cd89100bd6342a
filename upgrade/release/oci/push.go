package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/cosign"
)

// PushConfig says what is pushed where. Dir and Target.Location are required.
type PushConfig struct {
	// Dir is a repository directory, as release.Repository writes it.
	Dir string
	// Target is the registry or layout.
	Target Config
	// Key signs the image index of each release that it has not signed yet
	// and that is not withdrawn; nil signs nothing.
	Key *cosign.PrivateKey
	// Trust says whose signatures the directory must have: its index, and the
	// manifest of each release that is not withdrawn, before anything is sent.
	// It is required with Key. Without Key, a release that is signed by a key
	// which was revoked or is not among them is pushed all the same, and told in
	// PushedRelease.Refused: that is what an older key of the publisher leaves,
	// and hosts refuse it. Without signature, or altered, it ends the push.
	// Without both, whoever pulls finds out.
	Trust release.Trust
	// Name is the program whose repository it must be; required with Trust.
	Name string
	// Repair reads back everything that is there and sends anew what is
	// damaged; it costs the download of the whole repository. Without it a
	// registry is asked for digests only, which damage does not change, while
	// the blobs of a layout are read in any case. Where the index that is there
	// cannot be read for damage, it does not keep an older one away; without
	// Repair such a push is refused. What is whole and no repository is left.
	//
	// A registry that never replaces what it has under a digest keeps the
	// damage: the push then sends the other releases, moves no tag and ends
	// with an error that wraps release.ErrDigest and names each piece.
	Repair bool
	// Progress is told of each piece before and after it is sent, from the
	// goroutine that called Push; it may be nil.
	Progress func(Progress)
}

// Progress is how far a push has come.
type Progress struct {
	// Piece names what is sent: a file, or a release.
	Piece string `json:"piece"`
	// Done and Total count bytes of blobs, also those that were there.
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// Pushed is what a push has done.
type Pushed struct {
	// Target names the registry or layout.
	Target string `json:"target"`
	// Sequence is that of the index that is now there.
	Sequence int64 `json:"sequence"`
	// Releases are in the order of the index.
	Releases []PushedRelease `json:"releases"`
	// Sent and SentBytes count the blobs that were not there yet.
	Sent      int   `json:"sent"`
	SentBytes int64 `json:"sent_bytes"`
	// Repaired counts those of them that were there and damaged.
	Repaired int `json:"repaired,omitempty"`
}

// PushedRelease is one release in the registry.
type PushedRelease struct {
	// Version is the release's version.
	Version string `json:"version"`
	// Image is the digest of its image index.
	Image string `json:"image"`
	// Tag is the tag of the image index; empty for a version that cannot be
	// one.
	Tag string `json:"tag,omitempty"`
	// Signed tells that a new cosign signature was written.
	Signed bool `json:"signed,omitempty"`
	// Refused says why hosts with the same Trust refuse the release: by whose
	// key it is. Empty for one that they take.
	Refused string `json:"refused,omitempty"`
}

// target is a backend that can be written to.
type target interface {
	backend
	// hasBlob may go by the digest's name alone where reading costs a transfer.
	hasBlob(ctx context.Context, d ocispec.Descriptor) (bool, error)
	putBlob(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error
	// putManifest writes a manifest, after what it leads to; tag may be empty.
	putManifest(ctx context.Context, d ocispec.Descriptor, raw []byte, tag string) error
}

// Push copies a repository directory into a registry or a layout. Blobs that
// are there are not sent again, so that an interrupted push is continued by
// the next one. The tag that agents follow moves last: until then they see
// the repository as it was.
//
// A push is refused that would take the registry back to an older index, or
// a version's tag to another image; with Trust also one of what the release keys
// have not signed, which is release.ErrUntrusted (but see PushConfig.Trust), or of
// an expired index. Two pushes to one registry at a time are not put in order: the
// registry has no means for it; the later one wins.
func Push(ctx context.Context, cfg PushConfig) (*Pushed, error) {
	src, err := New(cfg.Target)
	if err != nil {
		return nil, err
	}
	dir, err := release.NewDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	t, ok := src.back.(target)
	if !ok {
		return nil, fmt.Errorf("%s cannot be written", src)
	}
	_, local := t.(*layout)
	p := &push{cfg: cfg, reads: cfg.Repair || local, src: src, dir: dir, target: t, refused: map[string]string{}, done: map[string]bool{}, result: Pushed{Target: src.String(), Releases: []PushedRelease{}}}
	if p.client, err = p.newClient(); err != nil {
		return nil, err
	}
	if err := p.locked(ctx); err != nil {
		return nil, fmt.Errorf("push %s to %s: %w", dir, src, err)
	}
	return &p.result, nil
}

type push struct {
	cfg    PushConfig
	reads  bool // blobs that are there, to see whether they are damaged
	src    *Source
	dir    *release.Dir
	client *release.Client // verifies the directory; may be nil
	target target

	index  *release.Index
	files  []file
	images []image

	refused  map[string]string // why hosts refuse a version
	done     map[string]bool   // digests of blobs that are there, or stay damaged
	damaged  []error           // what sending anew has not mended
	progress Progress
	result   Pushed
}

func (p *push) locked(ctx context.Context) error {
	if err := p.read(ctx); err != nil {
		return err
	}
	if err := p.checkTrust(ctx); err != nil {
		return err
	}
	l, ok := p.target.(*layout)
	if !ok {
		return p.run(ctx)
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	return errors.Join(p.run(ctx), unlock())
}

func (p *push) run(ctx context.Context) error {
	if err := p.checkSequence(ctx); err != nil {
		return err
	}
	for i, img := range p.images {
		if err := failpoint.Hit("push.image"); err != nil {
			return err
		}
		if err := p.sendImage(ctx, p.index.Releases[i], img); err != nil {
			return err
		}
	}
	if err := errors.Join(p.damaged...); err != nil {
		return err
	}
	if err := failpoint.Hit("push.images"); err != nil {
		return err
	}
	return p.sendRoot(ctx)
}

// checkSequence keeps a stale directory from undoing what others published.
// Agents would refuse the older index; new ones would not know better.
func (p *push) checkSequence(ctx context.Context) error {
	now, err := p.src.snapshot(ctx)
	if isDamage(err) {
		return p.unlessRepaired(ctx, err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d, ok := now.files[indexPath]
	if !ok {
		return nil
	}
	raw, err := small(ctx, p.target, d, maxFile)
	if err != nil {
		return p.unlessRepaired(ctx, absentIsDamage(err))
	}
	there, err := release.ParseIndex(raw)
	if err != nil {
		return err
	}
	switch mine := p.files[0].desc.Digest; {
	case there.Name != p.index.Name:
		return fmt.Errorf("it is the repository of %s, the directory of %s: give each program a repository of its own", there.Name, p.index.Name)
	case there.Sequence > p.index.Sequence, there.Sequence == p.index.Sequence && d.Digest != mine:
		return fmt.Errorf("%w: it holds index %d (%s), the directory index %d (%s): publish to the directory that was pushed last", release.ErrReplay, there.Sequence, d.Digest, p.index.Sequence, mine)
	}
	return nil
}

// sendImage sends a release: blobs, platforms, index with its tag, signature.
func (p *push) sendImage(ctx context.Context, e release.IndexEntry, img image) error {
	for _, d := range img.blobs {
		if err := p.keepDamage(p.send(ctx, d, e.Version, p.fromDirectory(ctx, d))); err != nil {
			return err
		}
	}
	for _, doc := range img.platforms {
		if err := p.keepDamage(p.write(ctx, doc, "")); err != nil {
			return fmt.Errorf("%s: %w", e.Version, err)
		}
	}
	r := PushedRelease{Version: e.Version, Image: string(img.index.desc.Digest), Refused: p.refused[e.Version]}
	if !strings.Contains(e.Version, "+") {
		r.Tag = e.Version
	}
	if err := p.keepDamage(p.tag(ctx, r.Tag, img.index)); err != nil {
		return fmt.Errorf("%s: %w", e.Version, err)
	}
	if p.cfg.Key != nil && e.Yanked == "" {
		var err error
		if r.Signed, err = p.sign(ctx, e, img.index.desc); err != nil {
			return fmt.Errorf("%s: cosign signature: %w", e.Version, err)
		}
	}
	p.result.Releases = append(p.result.Releases, r)
	return nil
}

// tag writes an image index. A tag that is there is not moved.
func (p *push) tag(ctx context.Context, tag string, doc document) error {
	if tag == "" {
		return p.write(ctx, doc, tag)
	}
	there, err := p.target.manifest(ctx, tag)
	switch {
	case errors.Is(err, fs.ErrNotExist), p.cfg.Repair && isDamage(asDamage(err)):
		return p.write(ctx, doc, tag)
	case err != nil || digestOf(there) == string(doc.desc.Digest):
		return err
	}
	if damaged, err := p.rewrite(ctx, doc, tag, there); damaged || err != nil {
		return err
	}
	return fmt.Errorf("the tag %s is there as %s, the release is %s, and a version never changes: choose a new version, or remove the tag if it is none of this repository's", tag, digestOf(there), doc.desc.Digest)
}

// sendRoot sends the files and moves the tag.
func (p *push) sendRoot(ctx context.Context) error {
	files := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactFiles,
		Config:       ocispec.DescriptorEmptyJSON,
	}
	empty := ocispec.DescriptorEmptyJSON
	if err := p.keepDamage(p.send(ctx, empty, "configuration", inMemory(empty.Data))); err != nil {
		return err
	}
	for _, f := range p.files {
		if err := p.keepDamage(p.send(ctx, f.desc, f.desc.Annotations[ocispec.AnnotationTitle], inMemory(f.raw))); err != nil {
			return err
		}
		files.Layers = append(files.Layers, f.desc)
	}
	doc, err := newDocument(ocispec.MediaTypeImageManifest, ArtifactFiles, files)
	if err != nil {
		return err
	}
	if err := p.keepDamage(p.write(ctx, doc, "")); err != nil {
		return err
	}
	if err := errors.Join(p.damaged...); err != nil {
		return err
	}
	root := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{doc.desc},
	}
	for i, img := range p.images {
		d := img.index.desc
		e := p.index.Releases[i]
		d.Annotations = identity(p.index.Name, e.Version, digestPrefix+e.Manifest)
		root.Manifests = append(root.Manifests, d)
	}
	doc, err = newDocument(ocispec.MediaTypeImageIndex, "", root)
	if err != nil {
		return err
	}
	if err := failpoint.Hit("push.tag"); err != nil {
		return err
	}
	if err := p.write(ctx, doc, Tag); err != nil {
		return err
	}
	p.result.Sequence = p.index.Sequence
	return nil
}

// send sends one blob unless it is there.
func (p *push) send(ctx context.Context, d ocispec.Descriptor, piece string, open func() (io.ReadCloser, error)) error {
	if p.done[string(d.Digest)] {
		return nil
	}
	p.report(piece)
	has, err := p.target.hasBlob(ctx, d)
	damaged := false
	if err == nil && has && p.reads {
		var good bool
		good, err = intact(ctx, p.target, d)
		damaged = !good
	}
	if err == nil && (!has || damaged) {
		if err = p.put(ctx, d, open, damaged); err == nil {
			p.result.Sent++
			p.result.SentBytes += d.Size
		}
	}
	if err != nil {
		// What another release shares is not read and sent once more.
		p.done[string(d.Digest)] = errors.Is(err, errStays)
		return fmt.Errorf("%s (%s): %w", piece, d.Digest, err)
	}
	p.done[string(d.Digest)] = true
	p.progress.Done += d.Size
	p.report(piece)
	return nil
}

func (p *push) report(piece string) {
	p.progress.Piece = piece
	if p.cfg.Progress != nil {
		p.cfg.Progress(p.progress)
	}
}

func inMemory(raw []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
}
