package rollout

import (
	"fmt"

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

// below are the keys that agents do not need, but for documents.
func (k keys) below() string   { return k.root + "rollout/" + k.fleet + "/" }
func (k keys) leader() string  { return k.below() + "leader" }
func (k keys) books() string   { return k.below() + "books" }
func (k keys) history() string { return k.below() + "history/" }
func (k keys) record(id string, seq int64) string {
	return fmt.Sprintf("%s%s/%08d", k.history(), id, seq)
}
func (k keys) document(hex string) string    { return k.below() + "document/" + hex }
func (k keys) pin(environment string) string { return k.root + "pin/" + environment }

// documents are those of configuration that are in force.
func (k keys) documents() string { return k.root + "config/" }
