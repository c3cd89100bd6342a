package rollout

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// DefaultFleet is the fleet of agents that are not told another.
const DefaultFleet = "default"

// keys are those of one fleet; see "Keys in etcd" in docs/formats.md.
type keys struct{ root, fleet string }

func newKeys(root, fleet string) (keys, error) {
	if fleet == "" {
		fleet = DefaultFleet
	}
	if err := etcdkv.ValidID(fleet); err != nil {
		return keys{}, fmt.Errorf("fleet %q: %w", fleet, err)
	}
	return keys{etcdkv.CleanRoot(root), fleet}, nil
}

// plan is what agents follow, freeze the brake that they heed.
func (k keys) plan() string   { return k.root + "plan/" + k.fleet }
func (k keys) freeze() string { return k.root + "freeze/" + k.fleet }

// registration is an agent's own.
func (k keys) registration(id string) string { return k.root + "registry/" + id }

// documents lie by themselves: agents may read them, and nothing of below.
func (k keys) documents() string             { return k.root + "rollout-document/" + k.fleet + "/" }
func (k keys) document(hex string) string    { return k.documents() + hex }
func (k keys) below() string                 { return k.root + "rollout/" + k.fleet + "/" }
func (k keys) leader() string                { return k.below() + "leader" }
func (k keys) books() string                 { return k.below() + "books" }
func (k keys) history() string               { return k.below() + "history/" }
func (k keys) records(id string) string      { return k.history() + id + "/" }
func (k keys) pin(environment string) string { return k.root + "pin/" + environment }

// published are the documents of configuration that are in force.
func (k keys) published() string { return k.root + "config/" }

// record is the key of a record: those of a rollout are in their order.
func (k keys) record(id string, seq int64) string {
	return fmt.Sprintf("%s%08d", k.records(id), seq)
}

// maxSeq is the last number that a record may have: its digits are eight, or it would
// not be in its place, and after the last of these there is to be no next.
const maxSeq = 99_999_998

// seq is the number of a record by its key.
func (k keys) seq(id, key string) (int64, error) {
	seq, err := strconv.ParseInt(strings.TrimPrefix(key, k.records(id)), 10, 64)
	if err != nil || seq <= 0 || seq > maxSeq || k.record(id, seq) != key {
		return 0, fmt.Errorf("%.300q: want a record of %s, such as %s", key, id, k.record(id, 1))
	}
	return seq, nil
}
