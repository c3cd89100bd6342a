package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
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
	roots part[*x509.CertPool]
	pair  part[*tls.Certificate]
}

// Open reads the files, which must be in order now.
func Open(p Paths) (*Files, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	f := &Files{
		roots: part[*x509.CertPool]{paths: named(p.CA), read: p.Roots, equal: (*x509.CertPool).Equal},
		pair: part[*tls.Certificate]{paths: named(p.Cert, p.Key), equal: func(a, b *tls.Certificate) bool {
			return a != nil && b != nil && a.Leaf.Equal(b.Leaf)
		}},
	}
	f.pair.read = func() (*tls.Certificate, error) { return newer(p, f.pair.value) }
	f.roots.refresh()
	f.pair.refresh()
	if err := errors.Join(f.roots.err, f.pair.err); err != nil {
		return nil, err
	}
	f.roots.changes, f.pair.changes = 0, 0
	return f, nil
}

// newer reads the pair, unless it has expired and the one in use has not.
func newer(p Paths, inUse *tls.Certificate) (*tls.Certificate, error) {
	pair, err := p.Pair()
	now := time.Now()
	if err == nil && pair != nil && inUse != nil && now.After(pair.Leaf.NotAfter) && now.Before(inUse.Leaf.NotAfter) {
		return nil, fmt.Errorf("client certificate %s: expired on %s, and the one read before has not: put a valid one in its place",
			p.Cert, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
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
	f.roots.refresh()
	f.pair.refresh()
	return Material{
		Roots: f.roots.value, Pair: f.pair.value,
		Changes: f.roots.changes + f.pair.changes,
	}, errors.Join(f.roots.err, f.pair.err)
}

// part is what belongs together in files.
type part[T any] struct {
	paths []string
	read  func() (T, error)
	equal func(a, b T) bool

	value   T
	err     error // of the last read
	changes int
	seen    []os.FileInfo
	seenAt  time.Time
}

// settled is the age from which on a file's time of change tells it from its
// next version: clocks of file systems are coarse.
const settled = 2 * time.Second

func (p *part[T]) refresh() {
	if len(p.paths) == 0 {
		return
	}
	// Looked at before reading: what changes in between is read once more.
	now, infos := time.Now(), make([]os.FileInfo, len(p.paths))
	for i, path := range p.paths {
		infos[i], _ = os.Stat(path) // reading tells the error
	}
	if p.same(infos) {
		return
	}
	value, err := p.read()
	if p.err = err; err == nil {
		if !p.equal(value, p.value) {
			p.changes++
		}
		p.value = value
	}
	p.seen, p.seenAt = infos, now
}

// same reports whether the files are those of the last read for certain.
func (p *part[T]) same(infos []os.FileInfo) bool {
	if p.moved(infos) {
		return false
	}
	for _, info := range infos {
		if info == nil || p.seenAt.Sub(info.ModTime()).Abs() < settled {
			return false
		}
	}
	return true
}

// moved reports whether any file looks different than at the last read.
func (p *part[T]) moved(infos []os.FileInfo) bool {
	if p.seen == nil {
		return true
	}
	for i, now := range infos {
		was := p.seen[i]
		if (was == nil) != (now == nil) {
			return true
		}
		if now != nil && (!os.SameFile(was, now) || !was.ModTime().Equal(now.ModTime()) || was.Size() != now.Size()) {
			return true
		}
	}
	return false
}
