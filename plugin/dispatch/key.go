package dispatch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// keys builds the keys of section "Tasks" of docs/formats.md.
type keys struct{ root string }

func newKeys(root string) (keys, error) {
	if err := etcdkv.ValidRoot(root); err != nil {
		return keys{}, err
	}
	return keys{etcdkv.CleanRoot(root) + "tasks/"}, nil
}

func (k keys) leader() string             { return k.root + "leader" }
func (k keys) specs() string              { return k.root + "spec/" }
func (k keys) spec(id string) string      { return k.specs() + id }
func (k keys) payload(id string) string   { return k.root + "payload/" + id }
func (k keys) targets(id string) string   { return k.root + "targets/" + id }
func (k keys) states() string             { return k.root + "state/" }
func (k keys) state(id string) string     { return k.states() + id }
func (k keys) dones() string              { return k.root + "done/" }
func (k keys) done(id string) string      { return k.dones() + id }
func (k keys) workers() string            { return k.root + "worker/" }
func (k keys) worker(agent string) string { return k.workers() + agent }
func (k keys) outcomes() string           { return k.root + "outcome/" }

func (k keys) idempotency(key string) string {
	sum := sha256.Sum256([]byte(key))
	return k.root + "key/" + hex.EncodeToString(sum[:])
}

func (k keys) inboxes(agent string) string     { return k.root + "inbox/" + agent + "/" }
func (k keys) inbox(agent, id string) string   { return k.inboxes(agent) + id }
func (k keys) claimed() string                 { return k.root + "claim/" }
func (k keys) claims(agent string) string      { return k.claimed() + agent + "/" }
func (k keys) claim(agent, id string) string   { return k.claims(agent) + id }
func (k keys) outcome(agent, id string) string { return k.outcomes() + agent + "/" + id }
func (k keys) results(agent, id string) string { return k.root + "result/" + agent + "/" + id + "/" }

func (k keys) result(agent, id string, number int64) string {
	return fmt.Sprintf("%s%012d", k.results(agent, id), number)
}

// below takes the id of a task off a key below prefix; ok is false of a key
// that somebody made up.
func below(prefix, key string) (id string, ok bool) {
	id, ok = strings.CutPrefix(key, prefix)
	return id, ok && validTaskID(id)
}

// belowAgent takes agent and id off a key such as prefix + agent + "/" + id.
func belowAgent(prefix, key string) (agent, id string, ok bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	agent, id, slash := strings.Cut(rest, "/")
	return agent, id, ok && slash && etcdkv.ValidID(agent) == nil && validTaskID(id)
}

// AgentKeys returns what a role must be granted for one agent's Worker below
// root: the key that it reads and writes, and the prefixes below which it does.
func AgentKeys(root, agent string) (key string, prefixes []string) {
	k := keys{etcdkv.CleanRoot(root) + "tasks/"}
	return k.worker(agent), []string{k.inboxes(agent), k.claims(agent), k.outcomes() + agent + "/", k.root + "result/" + agent + "/"}
}

// Prefix returns what a role must be granted to read, for a Queue that only
// shows, and to read and write, for a Queue and a Dispatcher.
func Prefix(root string) string { return etcdkv.CleanRoot(root) + "tasks/" }
