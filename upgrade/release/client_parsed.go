package release

import (
	"slices"
	"sync"
)

// parsedIndex spares whoever looks often from parsing the same bytes again,
// which takes most of the time of a look that needs no network. Signature,
// expiry and sequence are checked each time: what they are measured by
// changes.
type parsedIndex struct {
	mu     sync.Mutex
	digest string
	last   *Index
}

// index is ParseIndex. The caller may change what it returns.
func (p *parsedIndex) index(raw []byte, digest string) (*Index, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.digest != digest {
		x, err := ParseIndex(raw)
		if err != nil {
			return nil, err
		}
		p.digest, p.last = digest, x
	}
	x := *p.last
	x.Releases = slices.Clone(x.Releases)
	return &x, nil
}
