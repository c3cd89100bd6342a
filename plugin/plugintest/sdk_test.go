//go:build unix

package plugintest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/perennial-go/perennial/plugin/pluginpb"
	"github.com/perennial-go/perennial/plugin/sdk"
)

// counter does with package sdk what raw does without.
type counter struct{}

func serveSDK() error {
	return sdk.Serve(sdk.Config{Name: "sdk", Version: "1.2.3", Capabilities: []string{"count", "large", "loud", "hopeless"}}, counter{})
}

func (counter) Start(_ context.Context, settings []byte) error {
	if bytes.Contains(settings, []byte("bad")) {
		return errors.New("the settings are bad")
	}
	return nil
}

func (counter) Health(context.Context) error { return nil }
func (counter) Stop(context.Context) error   { return nil }

func (counter) Execute(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	switch task.Capability {
	case "large":
		return send(sdk.Result{Payload: make([]byte, pluginpb.MaxMessageBytes-16)})
	case "loud":
		_, err := os.Stderr.WriteString(strings.Repeat(strings.Repeat("hear me out ", 80)+"\n", 1200))
		return err
	case "hopeless":
		return sdk.Permanent(errors.New("nobody can do that"))
	}
	n, _ := strconv.Atoi(task.Cursor)
	last, err := strconv.Atoi(string(task.Payload))
	for err != nil || n < last {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n++
		number := strconv.Itoa(n)
		if err := send(sdk.Result{Payload: []byte(number), Cursor: number}); err != nil {
			return err
		}
	}
	return nil
}
