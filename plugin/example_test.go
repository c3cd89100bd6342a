package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/perennial-go/perennial/plugin"
)

// A host runs the plugins of a directory and keeps what one of them collects.
// The cursor is kept after the payload, so that nothing is lost whatever dies.
func Example() {
	manager, err := plugin.New(plugin.Config{
		Dir:         "/etc/myagent/plugins",
		StateDir:    "/var/lib/myagent/plugins",
		HostVersion: "1.4.0",
		Logger:      slog.Default(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	go collect(ctx, manager)
	if err := manager.Run(ctx); err != nil {
		fmt.Println(err)
	}
}

func collect(ctx context.Context, manager *plugin.Manager) {
	cursor := "" // from disk
	for ctx.Err() == nil {
		task := plugin.Task{ID: "logs", Capability: "collect", Cursor: cursor}
		err := manager.Execute(ctx, "logtail", task, func(r plugin.Result) error {
			// First make r.Payload durable, then the cursor.
			if r.Cursor != "" {
				cursor = r.Cursor
			}
			return nil
		})
		if errors.Is(err, plugin.ErrInterrupted) {
			continue // replaced or died: go on from the cursor
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// Install replaces a plugin while its host works with it; the host takes the
// new one up by itself.
func ExampleInstall() {
	template, err := os.ReadFile("logtail.plugin.yaml")
	if err != nil {
		fmt.Println("no template here")
		return
	}
	m, err := plugin.ParseTemplate(template)
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Version = "1.1.0"
	if _, err := plugin.Install("/etc/myagent/plugins", "build/logtail", m); err != nil {
		fmt.Println(err)
	}
	// Output: no template here
}
