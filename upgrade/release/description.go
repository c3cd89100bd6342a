package release

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Description is what a repository tells of one release, verified: where it
// comes from, who signed it, and what it asks of a host.
type Description struct {
	Pin Pin `json:"pin"`
	// Yanked is why the release was withdrawn, on one line of at most 1 KiB;
	// empty while it is offered.
	Yanked string `json:"yanked,omitempty"`
	// Manifest says commit, time of the build, requirements and binaries.
	Manifest *Manifest `json:"manifest,omitempty"`
	// SignedBy is who signed the manifest. The signature was verified.
	SignedBy Signer `json:"signed_by"`
	// Index is the index that lists the release.
	Index IndexState `json:"index"`
	// Problem is why the manifest could not be had; only DescribeAll sets it.
	Problem string `json:"problem,omitempty"`
}

// IndexState tells one index of a program from the others.
type IndexState struct {
	Sequence int64     `json:"sequence"`
	Issued   time.Time `json:"issued"`
	Expires  time.Time `json:"expires"`
}

// Describe returns what the repository tells of a release, given as an exact
// version or as a pin, also of one that was withdrawn. Errors: those of Index
// and Manifest but ErrYanked, and ErrFloatingTag.
func (c *Client) Describe(ctx context.Context, release string) (*Description, error) {
	d, err := asking(ctx, c.cfg.Source, func(src Source) (*Description, error) { return c.describe(ctx, src, release) })
	return d, wrap("describe", c.cfg.Name+" "+release, err)
}

func (c *Client) describe(ctx context.Context, src Source, text string) (*Description, error) {
	want := Pin{Version: text}
	if strings.Contains(text, "@") {
		var err error
		if want, err = ParsePin(text); err != nil {
			return nil, err
		}
	}
	x, keys, err := c.current(ctx, src)
	if err != nil {
		return nil, err
	}
	e := x.entry(want.Version)
	if e == nil {
		_, err := x.Find(want.Version)
		return nil, err
	}
	if want.Digest != "" && e.Pin() != want {
		return nil, fmt.Errorf("%w: the signed index lists %s", ErrDigest, e.Pin())
	}
	d := &Description{Pin: e.Pin(), Yanked: shown(e.Yanked), Index: IndexState{x.Sequence, x.Issued, x.Expires}}
	var signature []byte
	if d.Manifest, _, signature, err = c.listed(ctx, src, keys, *e); err != nil {
		return nil, err
	}
	d.SignedBy, err = ReadSigner(signature)
	return d, err
}

// DescribeAll returns the releases of the signed index in its order. It reads
// every manifest; one that is damaged does not keep the others from being
// told. Errors: those of Index.
func (c *Client) DescribeAll(ctx context.Context) (*Index, []Description, error) {
	var keys signers
	x, err := asking(ctx, c.cfg.Source, func(src Source) (x *Index, err error) {
		x, keys, err = c.current(ctx, src)
		return x, err
	})
	if err != nil {
		return nil, nil, wrap("read index of", c.cfg.Name, err)
	}
	all := make([]Description, 0, len(x.Releases))
	for _, e := range x.Releases {
		d := Description{Pin: e.Pin(), Yanked: shown(e.Yanked), Index: IndexState{x.Sequence, x.Issued, x.Expires}}
		signature, err := asking(ctx, c.cfg.Source, func(src Source) (signature []byte, err error) {
			d.Manifest, _, signature, err = c.listed(ctx, src, keys, e)
			return signature, err
		})
		if err == nil {
			d.SignedBy, err = ReadSigner(signature)
		}
		if err != nil {
			d.Problem = err.Error()
		}
		all = append(all, d)
	}
	return x, all, ctx.Err()
}
