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
	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/internal/etcdkv"
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

// instanceLimit bounds the file, in bytes; it has some 80.
const instanceLimit = 64 << 10

// openInstance reads the state directory's instance or makes one up, which
// is written only when the agent registers.
func openInstance(stateDir string) (*instance, error) {
	path := filepath.Join(stateDir, instanceFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &instance{Schema: schema, ID: rand.Text(), path: path}, nil
	}
	if err != nil {
		return nil, err
	}
	data, err := boundedio.ReadAll(f, -1, instanceLimit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return parseInstance(path, data)
}

// parseInstance refuses an instance that another agent could have as well.
func parseInstance(path string, data []byte) (*instance, error) {
	i := &instance{path: path}
	if err := decode(path, data, i); err != nil {
		return nil, err
	}
	if err := etcdkv.ValidID(i.ID); err != nil {
		return nil, fmt.Errorf("%s names no instance: %w; if the file is damaged, delete it and start the agent when its former lease has ended", path, err)
	}
	return i, nil
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
