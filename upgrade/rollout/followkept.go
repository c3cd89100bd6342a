package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

const (
	// followedSchema is the version of FollowerConfig.State.
	followedSchema = 1
	// followedLimit bounds it, in bytes.
	followedLimit = 64 << 10
)

// followed is what an agent keeps of the rollouts that it follows: it is
// written before an order is begun and once it has ended.
type followed struct {
	Schema int `json:"schema"`
	// Report is the newest, and Order what it is about.
	Report Report `json:"report"`
	Order  Order  `json:"order"`
	// Begun is the request that was begun and has not been seen to end.
	Begun string `json:"begun,omitempty"`
	// Changed is the rollout of which an order was begun here that changes what
	// runs; a revert of another one is none of this agent's business.
	Changed string `json:"changed,omitempty"`
	// Newest is the plan that got furthest of those of which something was begun
	// here, or has ended.
	Newest planAge `json:"newest,omitzero"`
}

// readFollowed returns what is kept at path; nothing where there is no file.
func readFollowed(path string) (followed, error) {
	if path == "" {
		return followed{}, nil
	}
	data, err := atomicfile.Read(path, followedLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return followed{}, nil
	}
	if err != nil {
		return followed{}, err
	}
	return parseFollowed(data)
}

func parseFollowed(data []byte) (followed, error) {
	var f followed
	if err := json.Unmarshal(data, &f); err != nil {
		return followed{}, fmt.Errorf("what was followed of rollouts: %w", err)
	}
	if f.Schema != followedSchema {
		return followed{}, fmt.Errorf("what was followed of rollouts has schema %d, this agent reads %d: another release wrote it", f.Schema, followedSchema)
	}
	return f, nil
}

// write keeps f at path.
func (f followed) write(path string) error {
	if path == "" {
		return nil
	}
	f.Schema = followedSchema
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(data, '\n'), 0o600)
}
