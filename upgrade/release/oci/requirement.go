package oci

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/cosign"
)

// CosignConfig configures RequireCosign. Source and Key are required.
type CosignConfig struct {
	// Source is where the image indexes and their signatures are. It need
	// not be where the release comes from.
	Source *Source
	// Key is the key that must have signed.
	Key *cosign.PublicKey
	// Repositories are those that a signature may have been made for, such
	// as "registry.example.com/agentd", where Source is a copy; default the
	// repository of Source. The older form of signatures names one; in a
	// layout it is not compared by default.
	Repositories []string
}

// cosigned is a release.Requirement.
type cosigned struct{ cfg CosignConfig }

// RequireCosign demands, beside the signatures of the release keys, that the
// release's image index has a cosign signature by a key and names the signed
// manifest, the program and the version that are asked for.
func RequireCosign(cfg CosignConfig) (release.Requirement, error) {
	if cfg.Source == nil || cfg.Key == nil {
		return nil, errors.New("cosign requirement: Source and Key are required: give oci://host/repository and a cosign.pub")
	}
	if name := cfg.Source.back.repository(); len(cfg.Repositories) == 0 && name != "" {
		cfg.Repositories = []string{name}
	}
	return &cosigned{cfg: cfg}, nil
}

// String implements release.Requirement.
func (c *cosigned) String() string {
	return fmt.Sprintf("cosign signature by %s in %s", c.cfg.Key.Hint(), c.cfg.Source)
}

// Check implements release.Requirement. What was found and is not good wraps
// release.ErrUntrusted, and cosign.ErrSignature where it is a signature.
func (c *cosigned) Check(ctx context.Context, m *release.Manifest, pin release.Pin) error {
	now, err := c.cfg.Source.snapshot(ctx)
	if err != nil {
		return fmt.Errorf("cosign requirement: %s: %w", c.cfg.Source, err)
	}
	d, ok := now.images[pin.Digest]
	if !ok {
		return fmt.Errorf("%w: cosign requirement: %s has no image for %s: push the release with release push --cosign-key", release.ErrUntrusted, c.cfg.Source, pin)
	}
	if err := c.checkImage(ctx, m, pin, d); err != nil {
		return fmt.Errorf("cosign requirement: image %s of %s in %s: %w", d.Digest, pin.Version, c.cfg.Source, err)
	}
	return nil
}

func (c *cosigned) checkImage(ctx context.Context, m *release.Manifest, pin release.Pin, d ocispec.Descriptor) error {
	b := c.cfg.Source.back
	raw, err := pinned(ctx, b, d)
	if err != nil {
		return err
	}
	x, err := parseIndex(raw)
	if err != nil {
		return fmt.Errorf("%w: %w", release.ErrUntrusted, err)
	}
	want := identity(m.Name, m.Version, pin.Digest)
	for _, name := range []string{ocispec.AnnotationTitle, ocispec.AnnotationVersion, AnnotationManifest} {
		if got := x.Annotations[name]; got != want[name] {
			return fmt.Errorf("%w: it names %s %.200q, wanted is %q: the registry answers with another release", release.ErrUntrusted, name, got, want[name])
		}
	}
	err = verify(ctx, b, c.cfg.Key, cosign.Subject{Digest: string(d.Digest), Repositories: c.cfg.Repositories, Annotations: want})
	if errors.Is(err, cosign.ErrSignature) {
		return fmt.Errorf("%w: %w: the publisher signs it with release push --cosign-key; if it was signed by another key that is to be trusted, give that (--cosign-key)", release.ErrUntrusted, err)
	}
	return err
}
