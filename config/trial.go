package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// maxCrashes is how often a program may end in the middle of taking in a
// configuration before it starts on another one.
const maxCrashes = 3

// trialSchema is the version of the trial file's format.
const trialSchema = 1

// trial is on disk, beside the last-known-good file, while subscribers take in
// a configuration: one that is found at a start tells of a crash.
type trial struct {
	Schema int `json:"schema"`
	// Digest is the configuration's, Program the path of the executable:
	// another release tries anew.
	Digest  string    `json:"digest"`
	Program string    `json:"program"`
	Times   int       `json:"times"`
	At      time.Time `json:"at"`
}

func (k *keeper) trialPath() string { return k.path + ".trial" }

// crashes returns how often this program has ended while it took in the
// configuration with that digest. A file that cannot be read tells of none.
func (k *keeper) crashes(digest string) int {
	if k.path == "" {
		return 0
	}
	data, err := readLocal(k.trialPath(), 1<<16)
	if err != nil {
		return 0
	}
	var t trial
	program, err := os.Executable()
	if err != nil || json.Unmarshal(data, &t) != nil || t.Schema != trialSchema || t.Digest != digest || t.Program != program {
		return 0
	}
	return t.Times
}

// try notes that subscribers are about to take in a configuration.
func (k *keeper) try(digest string) error {
	if k.path == "" || !k.mayWrite() {
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	data, err := json.Marshal(trial{Schema: trialSchema, Digest: digest, Program: program, Times: k.crashes(digest) + 1, At: time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := atomicfile.Write(k.trialPath(), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("a crash in the new configuration would not be noticed: %w", err)
	}
	return nil
}

// tried notes that they have answered, whatever it was.
func (k *keeper) tried() error {
	if k.path == "" || !k.mayWrite() {
		return nil
	}
	if err := os.Remove(k.trialPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the next start would count a crash: %w", err)
	}
	return nil
}

// crashed is the failure of a configuration that crashed the program.
func (k *keeper) crashed(docs []document) *Failure {
	n := k.crashes(digestOf(docs))
	if n < maxCrashes {
		return nil
	}
	f := failure(docs, newest(docs), fmt.Sprintf(
		"the program ended %d times while it took this configuration in: it is not tried again before the documents change (or %s is deleted)", n, k.trialPath()))
	f.Attempts, f.crashed = n, true
	return f
}
