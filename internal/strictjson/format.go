package strictjson

import (
	"encoding/json"
	"fmt"
)

// Format is how a program keeps values of a kind, with their schema in a member
// of that name.
type Format struct {
	// Schema is the only one that is read.
	Schema int
	// MaxBytes bounds a value.
	MaxBytes int
	// Depth is that of Check; 0 = whoever writes may be trusted to be unambiguous.
	Depth int
	// Newer is wrapped by the error for a value of another schema.
	Newer error
}

// Decode reads data, which name holds.
func (f Format) Decode(name string, data []byte, into any) error {
	if len(data) > f.MaxBytes {
		return fmt.Errorf("%s has %d bytes, at most %d are read", name, len(data), f.MaxBytes)
	}
	if f.Depth > 0 {
		if err := Check(data, f.Depth); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("%s is not JSON: %w", name, err)
	}
	if head.Schema != f.Schema {
		return fmt.Errorf("%s has schema %d, this version reads %d: %w", name, head.Schema, f.Schema, f.Newer)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
