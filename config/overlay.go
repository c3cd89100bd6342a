package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
)

// Overlay puts documents in the place of those that etcd holds for a scope, on
// this agent alone: so a document is tried on a part of a fleet before it is
// published to all. What is laid counts as the scope's document in everything: it
// is validated, applied and kept as the last-known-good configuration like
// one that was published. Its methods may be called concurrently, before and
// while a Store runs with it.
type Overlay struct {
	onChange func()
	changed  chan struct{}

	mu    sync.Mutex
	laid  map[string]*laid  // by scope
	force map[string]string // digests of what is in force of etcd's layers, by scope
}

// laid is a document in the place of its scope's own.
type laid struct {
	data     []byte
	revision int64
	// before is the revision of the scope's own document when this was laid over
	// it; known once a Store has seen etcd.
	before int64
	known  bool
	yields bool
	// tried: it has come into force, or was refused for good by failure.
	tried   bool
	failure error
}

// NewOverlay returns one that lays nothing. onChange is called when a Standing
// may have changed; it must not block, and may be nil.
func NewOverlay(onChange func()) *Overlay {
	if onChange == nil {
		onChange = func() {}
	}
	return &Overlay{onChange: onChange, changed: make(chan struct{}, 1), laid: map[string]*laid{}, force: map[string]string{}}
}

// OverlayStanding is how a scope stands.
type OverlayStanding struct {
	// Laid is the digest of what is laid over the scope's own document,
	// "sha256:<hex>" of its bytes; "" = nothing is.
	Laid string
	// InForce is the digest of the scope's document in the running configuration;
	// "" = it has none.
	InForce string
	// Tried: what is laid has come into force, or was refused, for Failure.
	// Subscribers are asked several times before that.
	Tried   bool
	Failure error
}

// Lay has data take the place of the document of scope; revision is shown as
// its own. Whether it comes into force tells Standing.
func (o *Overlay) Lay(scope string, data []byte, revision int64) error {
	if err := CheckScope(scope); err != nil {
		return err
	}
	if data == nil {
		return errors.New("config: no document to lay over that of " + scope)
	}
	o.mu.Lock()
	o.laid[scope] = &laid{data: bytes.Clone(data), revision: revision}
	o.mu.Unlock()
	o.ring()
	return nil
}

// Lift takes away what is laid over scope's document, so that this is read
// again, as soon as etcd is heard.
func (o *Overlay) Lift(scope string) {
	o.mu.Lock()
	delete(o.laid, scope)
	o.mu.Unlock()
	o.ring()
}

// Yield has what is laid over scope's document give way to the next one that is
// published there, or that is the same.
func (o *Overlay) Yield(scope string) {
	o.mu.Lock()
	if l := o.laid[scope]; l != nil {
		l.yields = true
	}
	o.mu.Unlock()
	o.ring()
}

// Standing tells how scope stands.
func (o *Overlay) Standing(scope string) OverlayStanding {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := OverlayStanding{InForce: o.force[scope]}
	if l := o.laid[scope]; l != nil {
		s.Laid, s.Tried, s.Failure = bytesDigest(l.data), l.tried, l.failure
	}
	return s
}

func (o *Overlay) ring() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
	o.onChange()
}

// changes tells when what is laid has changed; a nil Overlay's never does.
func (o *Overlay) changes() <-chan struct{} {
	if o == nil {
		return nil
	}
	return o.changed
}

// over is docs, which etcd holds, with what is laid in its place, the weakest
// first. fresh: they are what etcd holds now.
func (o *Overlay) over(places []spot, docs []document, fresh bool) []document {
	if o == nil {
		return docs
	}
	o.mu.Lock()
	var all []document
	gone := false
	for _, p := range places {
		own := documentAt(docs, p.key)
		l := o.laid[p.scope]
		if l != nil && fresh && l.givesWay(own) {
			delete(o.laid, p.scope)
			l, gone = nil, true
		}
		switch {
		case l != nil:
			all = append(all, document{Key: p.key, Revision: l.revision, Data: l.data, laid: true})
		case own != nil:
			all = append(all, *own)
		}
	}
	o.mu.Unlock()
	if gone {
		o.onChange()
	}
	return all
}

// givesWay reports whether l is to yield to own, the scope's own document; nil =
// it has none, which is as good as one that says nothing.
func (l *laid) givesWay(own *document) bool {
	var revision int64
	if own != nil {
		revision = own.Revision
	}
	if !l.known {
		l.before, l.known = revision, true
	}
	same := own == nil && string(bytes.TrimSpace(l.data)) == "{}" || own != nil && bytes.Equal(own.Data, l.data)
	return l.yields && (same || revision != l.before)
}

// applied notes that docs, of etcd's layers, are in force.
func (o *Overlay) applied(places []spot, docs []document) {
	if o == nil {
		return
	}
	o.mu.Lock()
	o.force = map[string]string{}
	for _, p := range places {
		d := documentAt(docs, p.key)
		if d == nil {
			continue
		}
		o.force[p.scope] = bytesDigest(d.Data)
		if l := o.laid[p.scope]; l != nil && bytes.Equal(l.data, d.Data) {
			l.tried, l.failure = true, nil
		}
	}
	o.mu.Unlock()
	o.onChange()
}

// refused notes that docs, of etcd's layers, are not tried again. What has been
// in force is not what was wrong.
func (o *Overlay) refused(places []spot, docs []document, why error) {
	if o == nil {
		return
	}
	o.mu.Lock()
	for _, p := range places {
		d, l := documentAt(docs, p.key), o.laid[p.scope]
		if d != nil && l != nil && !l.tried && bytes.Equal(l.data, d.Data) {
			l.tried, l.failure = true, why
		}
	}
	o.mu.Unlock()
	o.onChange()
}

// spot is a document's key and what it is for.
type spot struct{ key, scope string }

func documentAt(docs []document, key string) *document {
	for i := range docs {
		if docs[i].Key == key {
			return &docs[i]
		}
	}
	return nil
}

// bytesDigest identifies a document by its bytes.
func bytesDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
