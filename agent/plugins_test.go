package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/sdk"
)

// collectedFile holds what collect has kept, in the state directory.
const collectedFile = "collected"

// testPlugin is a plugin that counts on from its cursor.
func testPlugin(b build) error {
	count := func(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
		n, _ := strconv.Atoi(task.Cursor)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			n++
			if err := send(sdk.Result{Payload: []byte(strconv.Itoa(n) + "\n"), Cursor: strconv.Itoa(n)}); err != nil {
				return err
			}
		}
	}
	return sdk.Serve(sdk.Config{Name: b.Plugin, Version: b.Version, Capabilities: []string{"count"}}, sdk.Func(count))
}

// collect appends what the plugin counts to a file, and resumes after its last
// line, in whichever process.
func collect(ctx context.Context, a *Agent, path string) error {
	select {
	case <-a.Active():
	case <-ctx.Done():
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		kept, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		cursor := ""
		if lines := bytes.Fields(kept); len(lines) > 0 {
			cursor = string(lines[len(lines)-1])
		}
		err = a.Plugins().Execute(ctx, "counter", plugin.Task{Capability: "count", Cursor: cursor, Resumable: true}, func(r plugin.Result) error {
			_, err := f.Write(r.Payload)
			return err
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, plugin.ErrInterrupted), errors.Is(err, plugin.ErrNotRunning), errors.Is(err, plugin.ErrNotFound):
		default:
			return fmt.Errorf("the task ended: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func listPlugins(a *Agent) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(a.Plugins().List()) }
}
