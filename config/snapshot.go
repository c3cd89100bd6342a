package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

// Snapshot is a configuration and where it is from. It is shared: nothing in
// it may be modified. Printed or logged, it tells where it is from and not
// what it holds, which may be secret; see Redacted.
type Snapshot[T any] struct {
	Value T
	// Revision is the highest modification revision, in etcd, of the
	// documents it is made of; 0 = of none.
	Revision int64
	// Digest identifies the documents in files and in etcd that it is made of,
	// "sha256:" and hex; empty before Run has loaded anything.
	Digest string
	// Origin is "etcd", "file" (the last-known-good file, etcd unheard yet)
	// or "default" (before Run has loaded anything).
	Origin string
	// At is when it came into force here.
	At time.Time
}

// The values of Snapshot.Origin and Status.Origin.
const (
	OriginDefault = "default"
	OriginFile    = "file"
	OriginEtcd    = "etcd"
)

// Format implements fmt.Formatter for all verbs.
func (s Snapshot[T]) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "configuration at revision %d from %s", s.Revision, s.Origin)
}

// LogValue implements slog.LogValuer.
func (s Snapshot[T]) LogValue() slog.Value {
	return slog.GroupValue(slog.Int64("revision", s.Revision), slog.String("digest", s.Digest), slog.String("origin", s.Origin))
}

// MarshalJSON hides the fields tagged secret.
func (s Snapshot[T]) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Value    T         `json:"value"`
		Revision int64     `json:"revision"`
		Digest   string    `json:"digest"`
		Origin   string    `json:"origin"`
		At       time.Time `json:"at"`
	}{Redacted(s.Value), s.Revision, s.Digest, s.Origin, s.At})
}
