package agent

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/perennial-go/perennial/internal/etcdkv"
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

// decode reads a value of schema 1 and refuses a newer one.
func decode(key string, data []byte, into any) error {
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("%s is not JSON: %w", key, err)
	}
	if head.Schema != schema {
		return fmt.Errorf("%s has schema %d, this version reads %d: %w", key, head.Schema, schema, ErrSchema)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
