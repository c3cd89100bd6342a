package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/lastgood"
)

// Material is what the files held when they were last in order.
type Material struct {
	Roots *x509.CertPool   // nil = the system's
	Pair  *tls.Certificate // nil = none
	// Changes counts how often either was replaced since Open.
	Changes int
}

// Files keeps the last good content of files that others replace: the
// authorities and the pair each for itself, so that one of two files that is
// not written yet breaks nothing. Its methods may be called concurrently.
type Files struct {
	mu    sync.Mutex
	roots *lastgood.Part[*x509.CertPool]
	pair  *lastgood.Part[*tls.Certificate]
}

// Open reads the files, which must be in order now.
func Open(p Paths) (*Files, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	f := &Files{
		roots: lastgood.New(func(*x509.CertPool) (*x509.CertPool, error) { return p.Roots() }, (*x509.CertPool).Equal, named(p.CA)...),
		pair:  lastgood.New(p.newer, samePair, named(p.Cert, p.Key)...),
	}
	_, _, rootsErr := f.roots.Current()
	_, _, pairErr := f.pair.Current()
	if err := errors.Join(rootsErr, pairErr); err != nil {
		return nil, err
	}
	return f, nil
}

func samePair(a, b *tls.Certificate) bool { return a != nil && b != nil && a.Leaf.Equal(b.Leaf) }

// newer reads the pair, unless it has expired and the one in use has not.
func (p Paths) newer(inUse *tls.Certificate) (*tls.Certificate, error) {
	pair, err := p.Pair()
	now := time.Now()
	if err == nil && pair != nil && inUse != nil && now.After(pair.Leaf.NotAfter) && now.Before(inUse.Leaf.NotAfter) {
		return nil, fmt.Errorf("%s %s: expired on %s, and the one read before has not: put a valid one in its place",
			p.what(), p.Cert, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return pair, err
}

func named(paths ...string) []string {
	if paths[0] == "" {
		return nil
	}
	return paths
}

// Current returns the newest material that was in order, and what is wrong
// with the files as they are now; nil = nothing. It reads files only where
// they have changed.
func (f *Files) Current() (Material, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	roots, rootsChanges, rootsErr := f.roots.Current()
	pair, pairChanges, pairErr := f.pair.Current()
	return Material{
		Roots: roots, Pair: pair,
		// The first of each was there at Open.
		Changes: max(0, rootsChanges-1) + max(0, pairChanges-1),
	}, errors.Join(rootsErr, pairErr)
}
