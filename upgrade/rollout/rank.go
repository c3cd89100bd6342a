package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
)

// Rank is an agent's place in a rollout: those with a low one start first. It is
// evenly spread over all 64 bits, and another in each rollout, so that the same
// agents are not the canaries each time.
//
// As text and JSON it is 16 hexadecimal digits, since a JSON number of this size
// is not exact everywhere.
type Rank uint64

// LastRank is the highest there is: a mark that everybody has passed.
const LastRank = Rank(1<<64 - 1)

// RankOf is the rank of the agent called agentID in the rollout called
// rolloutID: the first 8 bytes, big endian, of the SHA-256 of both ids with a
// zero byte between them, which no id has.
func RankOf(rolloutID, agentID string) Rank {
	var ids [256]byte // those that are valid fit in it, and need no memory
	text := append(append(append(ids[:0], rolloutID...), 0), agentID...)
	sum := sha256.Sum256(text)
	return Rank(binary.BigEndian.Uint64(sum[:8]))
}

// String returns 16 hexadecimal digits.
func (r Rank) String() string { return fmt.Sprintf("%016x", uint64(r)) }

// MarshalText implements encoding.TextMarshaler.
func (r Rank) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rank) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil || len(text) != 16 {
		return fmt.Errorf("rank %.40q: want 16 hexadecimal digits", text)
	}
	*r = Rank(n)
	return nil
}
