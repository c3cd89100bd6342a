package sdk_test

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

// tick yields a number every second and resumes after the one that its host
// kept last.
func tick(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	n, _ := strconv.Atoi(task.Cursor)
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		n++
		s := strconv.Itoa(n)
		if err := send(sdk.Result{Payload: []byte(`{"n":` + s + `}`), Cursor: s}); err != nil {
			return err
		}
	}
}

// This and the function tick are a whole plugin. Started by hand it says that
// it is one.
func Example() {
	err := sdk.Serve(sdk.Config{Name: "ticker", Version: "1.0.0", Capabilities: []string{"collect"}}, sdk.Func(tick))
	if err != nil {
		fmt.Println(err)
	}
	// Output: this program is a plugin: put it into the plugins directory of an agent, which starts it
}
