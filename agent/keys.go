package agent

import (
	"errors"
	"strings"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/strictjson"
)

// schema is the number that every value of this package in etcd carries.
const schema = 1

// ErrSchema is wrapped by the error for a value that a newer version wrote.
var ErrSchema = errors.New("written by a newer version")

// keys builds the keys of section "Keys in etcd" of docs/formats.md.
type keys struct{ root string }

func newKeys(root string) keys { return keys{etcdkv.CleanRoot(root)} }

func (k keys) registry(id string) string       { return k.root + "registry/" + id }
func (k keys) status(id string) string         { return k.root + "status/" + id }
func (k keys) order(id string) string          { return k.root + "order/" + id }
func (k keys) plugins() string                 { return k.root + "plugins/" }
func (k keys) plugin(id, plugin string) string { return k.plugins() + id + "/" + plugin }

// The kinds of keys that hang on an agent's lease.
const (
	kindRegistry = "registry"
	kindStatus   = "status"
	kindPlugins  = "plugins"
)

// split takes the key of a registration, a status or a plugin apart. ok is
// false of any other, also of one with what is no id: anybody who may write
// there can have made it up.
func (k keys) split(key string) (kind, id, plugin string, ok bool) {
	rest, below := strings.CutPrefix(key, k.root)
	kind, id, named := strings.Cut(rest, "/")
	if !below || !named {
		return "", "", "", false
	}
	switch kind {
	case kindRegistry, kindStatus:
		return kind, id, "", etcdkv.ValidID(id) == nil
	case kindPlugins:
		id, plugin, _ = strings.Cut(id, "/")
		return kind, id, plugin, etcdkv.ValidID(id) == nil && etcdkv.ValidID(plugin) == nil
	}
	return "", "", "", false
}

// maxValue bounds a value, in bytes. A status takes some KiB; etcd would hold
// 1.5 MiB.
const maxValue = 1 << 20

// decode reads a value of schema 1 and refuses a newer one, and a large one.
func decode(key string, data []byte, into any) error {
	return strictjson.Format{Schema: schema, MaxBytes: maxValue, Newer: ErrSchema}.Decode(key, data, into)
}
