package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/plugin/pluginpb"
	"github.com/perennial-go/perennial/plugin/sdk"
)

// The test binary is also a plugin, whose version is the payload of its copy.
func TestMain(m *testing.M) {
	if os.Getenv(pluginpb.CookieKey) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := servePlugin(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func servePlugin() error {
	var version string
	if err := reexec.Payload(&version); err != nil {
		return err
	}
	return sdk.Serve(sdk.Config{Name: "counter", Version: version, Capabilities: []string{"count", "never"}}, sdk.Func(
		func(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
			if task.Capability == "never" {
				return sdk.Permanent(errors.New("not in this life"))
			}
			n, err := strconv.Atoi(string(task.Payload))
			if err != nil {
				return err
			}
			from, _ := strconv.Atoi(task.Cursor)
			for i := from + 1; i <= n; i++ {
				r := sdk.Result{Payload: []byte(strconv.Itoa(i))}
				if i%3 == 0 {
					r.Cursor = strconv.Itoa(i)
				}
				if err := send(r); err != nil {
					return err
				}
				if err := backoff.Sleep(ctx, 5*time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		}))
}
