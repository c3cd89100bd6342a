package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/perennial-go/perennial/plugin/sdk"
)

const (
	maxPayloadBytes = 64 << 10
)

// request is a task's payload.
type request struct {
	Command string             `json:"command"`
	Params  map[string]*string `json:"params"` // a pointer, so that null is no ""
}

// readRequest finds the command that a task asks for. Its errors are those of
// whoever made the task.
func readRequest(task sdk.Task, commands map[string]*command) (*command, invocation, error) {
	if len(task.Payload) > maxPayloadBytes {
		return nil, invocation{}, fmt.Errorf("payload: want at most %d bytes, found %d", maxPayloadBytes, len(task.Payload))
	}
	var r request
	if err := sdk.Decode(task.Payload, &r); err != nil {
		return nil, invocation{}, fmt.Errorf(`payload: want {"command": "name", "params": {"name": "value"}}: %w`, err)
	}
	c, ok := commands[r.Command]
	if !ok {
		return nil, invocation{}, fmt.Errorf("command: want one of %q, found %.60q", slices.Sorted(maps.Keys(commands)), r.Command)
	}
	if strings.ContainsRune(task.ID+task.IdempotencyKey, 0) {
		return nil, invocation{}, fmt.Errorf("task %q: want an id and an idempotency key without a NUL byte", task.ID)
	}
	given := map[string]string{}
	for name, value := range r.Params {
		if value == nil {
			return nil, invocation{}, fmt.Errorf("params: %.60q: want text, found null", name)
		}
		given[name] = *value
	}
	in, err := c.invoke(given)
	if err != nil {
		return nil, invocation{}, fmt.Errorf("command %s: %w", c.name, err)
	}
	return c, in, nil
}
