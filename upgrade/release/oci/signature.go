package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/cosign"
)

// Bounds of what is looked at for one image.
const (
	maxSignatures        = 64
	maxSignatureManifest = 64 << 10
)

// Annotations that cosign writes to the manifest of a bundle.
const (
	annotationContent   = "dev.sigstore.bundle.content"
	annotationPredicate = "dev.sigstore.bundle.predicateType"
)

// payloadTag is where the older form of a signature lies.
func payloadTag(digest string) string { return strings.Replace(digest, ":", "-", 1) + ".sig" }

// verify looks for one good signature of an image, in both forms. The error
// says what is wrong with each signature that was found.
func verify(ctx context.Context, b backend, key *cosign.PublicKey, want cosign.Subject) error {
	bundles := verifyBundles(ctx, b, key, want)
	if bundles == nil {
		return nil
	}
	payloads := verifyPayloads(ctx, b, key, want)
	if payloads == nil {
		return nil
	}
	return errors.Join(bundles, payloads)
}

func verifyBundles(ctx context.Context, b backend, key *cosign.PublicKey, want cosign.Subject) error {
	found, err := b.referrers(ctx, want.Digest)
	if err != nil {
		return fmt.Errorf("look for bundles: %w", err)
	}
	var errs []error
	for _, d := range found[:min(len(found), maxSignatures)] {
		// What a registry says of the type is not relied on: some take that
		// of the configuration.
		layer, is, err := bundleLayer(ctx, b, d)
		if err == nil && !is {
			continue
		}
		if err == nil {
			err = verifyBundle(ctx, b, key, want, layer)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("bundle %s: %w", d.Digest, err))
	}
	if len(errs) == 0 {
		return fmt.Errorf("%w: no bundle refers to the image", cosign.ErrSignature)
	}
	return errors.Join(errs...)
}

// bundleLayer returns the layer with the bundle; is tells whether the
// manifest is of one, and not of a list of materials, say.
func bundleLayer(ctx context.Context, b backend, d ocispec.Descriptor) (layer ocispec.Descriptor, is bool, err error) {
	if err := checkDescriptor(d, maxSignatureManifest); err != nil {
		return layer, false, err
	}
	raw, err := pinned(ctx, b, d)
	if err != nil {
		return layer, false, err
	}
	var m ocispec.Manifest
	if err := decode(raw, &m); err != nil {
		return layer, false, err
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != cosign.MediaTypeBundle {
		return layer, false, nil
	}
	return m.Layers[0], true, nil
}

func verifyBundle(ctx context.Context, b backend, key *cosign.PublicKey, want cosign.Subject, layer ocispec.Descriptor) error {
	bundle, err := small(ctx, b, layer, cosign.MaxBundleSize)
	if err != nil {
		return err
	}
	return key.VerifyBundle(bundle, want)
}

func verifyPayloads(ctx context.Context, b backend, key *cosign.PublicKey, want cosign.Subject) error {
	tag := payloadTag(want.Digest)
	m, err := payloads(ctx, b, want.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no tag %s", cosign.ErrSignature, tag)
	}
	if err != nil {
		return fmt.Errorf("tag %s: %w", tag, err)
	}
	var errs []error
	for _, layer := range m.Layers[:min(len(m.Layers), maxSignatures)] {
		if layer.MediaType != cosign.MediaTypePayload {
			errs = append(errs, fmt.Errorf("tag %s: %w: a layer of type %.80q, want %s", tag, cosign.ErrSignature, layer.MediaType, cosign.MediaTypePayload))
			continue
		}
		payload, err := small(ctx, b, layer, cosign.MaxPayloadSize)
		if err == nil {
			err = key.VerifyPayload(payload, layer.Annotations[cosign.AnnotationSignature], want)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("tag %s: %w", tag, err))
	}
	if len(errs) == 0 {
		return fmt.Errorf("%w: the tag %s has no layer", cosign.ErrSignature, tag)
	}
	return errors.Join(errs...)
}

func payloads(ctx context.Context, b backend, digest string) (*ocispec.Manifest, error) {
	raw, err := b.manifest(ctx, payloadTag(digest))
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	return &m, decode(raw, &m)
}

// sign writes a signature of an image in both forms, unless the key has
// signed it.
func (p *push) sign(ctx context.Context, e release.IndexEntry, image ocispec.Descriptor) (bool, error) {
	s := cosign.Subject{Digest: string(image.Digest), Annotations: identity(p.index.Name, e.Version, digestPrefix+e.Manifest)}
	if name := p.target.repository(); name != "" {
		s.Repositories = []string{name}
	}
	public := p.cfg.Key.Public()
	signed := false
	if verifyBundles(ctx, p.target, public, s) != nil {
		signed = true
		if err := p.signBundle(ctx, s, image); err != nil {
			return false, err
		}
	}
	// The older form names the repository of a registry; a layout has none.
	if len(s.Repositories) > 0 && verifyPayloads(ctx, p.target, public, s) != nil {
		signed = true
		if err := p.signPayload(ctx, s); err != nil {
			return false, err
		}
	}
	return signed, nil
}

func (p *push) signBundle(ctx context.Context, s cosign.Subject, image ocispec.Descriptor) error {
	raw, err := p.cfg.Key.SignBundle(s)
	if err != nil {
		return err
	}
	layer := descriptor(cosign.MediaTypeBundle, digestOf(raw), int64(len(raw)))
	doc, err := newDocument(ocispec.MediaTypeImageManifest, cosign.MediaTypeBundle, ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: cosign.MediaTypeBundle,
		Config:       ocispec.DescriptorEmptyJSON,
		Layers:       []ocispec.Descriptor{layer},
		Subject:      &image,
		Annotations:  map[string]string{annotationContent: "dsse-envelope", annotationPredicate: cosign.PredicateSign},
	})
	if err != nil {
		return err
	}
	return p.putSignature(ctx, layer, raw, doc, "")
}

// signPayload adds a layer to the signatures by others that are there.
func (p *push) signPayload(ctx context.Context, s cosign.Subject) error {
	raw, signature, err := p.cfg.Key.SignPayload(s)
	if err != nil {
		return err
	}
	m, err := payloads(ctx, p.target, s.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		m, err = &ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageManifest,
			Config:    ocispec.DescriptorEmptyJSON,
		}, nil
	}
	if err != nil {
		return err
	}
	layer := descriptor(cosign.MediaTypePayload, digestOf(raw), int64(len(raw)))
	layer.Annotations = map[string]string{cosign.AnnotationSignature: signature}
	m.Layers = append(m.Layers, layer)
	doc, err := newDocument(ocispec.MediaTypeImageManifest, "", m)
	if err != nil {
		return err
	}
	return p.putSignature(ctx, layer, raw, doc, payloadTag(s.Digest))
}

func (p *push) putSignature(ctx context.Context, layer ocispec.Descriptor, raw []byte, doc document, tag string) error {
	empty := ocispec.DescriptorEmptyJSON
	if err := p.send(ctx, empty, "configuration", inMemory(empty.Data)); err != nil {
		return err
	}
	if err := p.target.putBlob(ctx, layer, inMemory(raw)); err != nil {
		return err
	}
	return p.target.putManifest(ctx, doc.desc, doc.raw, tag)
}
