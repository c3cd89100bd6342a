package agent

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

const instanceFile = "instance.json"

// instance tells this agent from another that was given the same id: it is
// made once for a state directory and stays through restarts and upgrades.
type instance struct {
	Schema int    `json:"schema"`
	ID     string `json:"instance"`
	// Registered is true once this agent has been registered in etcd.
	Registered bool `json:"registered"`

	path string
	mu   sync.Mutex // guards Registered
}

// openInstance reads the state directory's instance or makes one up, which
// is written only when the agent registers.
func openInstance(stateDir string) (*instance, error) {
	i := &instance{path: filepath.Join(stateDir, instanceFile)}
	data, err := os.ReadFile(i.path)
	if errors.Is(err, fs.ErrNotExist) {
		i.Schema, i.ID = schema, rand.Text()
		return i, nil
	}
	if err != nil {
		return nil, err
	}
	return i, decode(i.path, data, i)
}

// everRegistered reports whether etcd has known this agent.
func (i *instance) everRegistered() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.Registered
}

// register makes the instance durable before its first registration, so that
// a crash right after it does not leave a stranger's key behind.
func (i *instance) register() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.Registered {
		return nil
	}
	i.Registered = true
	data, err := json.Marshal(i)
	if err == nil {
		err = atomicfile.Write(i.path, append(data, '\n'), 0o600)
	}
	if err != nil {
		// The next attempt has to write it still.
		i.Registered = false
		return fmt.Errorf("instance: %w", err)
	}
	return nil
}
