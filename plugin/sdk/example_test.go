package sdk_test

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

// ticker yields a number every second and resumes after the one that its
// host kept last.
type ticker struct{}

func (ticker) Start(context.Context, []byte) error { return nil }
func (ticker) Health(context.Context) error        { return nil }
func (ticker) Stop(context.Context) error          { return nil }

func (ticker) Execute(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	n, _ := strconv.Atoi(task.Cursor)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
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

// This is a whole plugin. Started by hand it says that it is one.
func Example() {
	err := sdk.Serve(sdk.Config{Name: "ticker", Version: "1.0.0", Capabilities: []string{"collect"}}, ticker{})
	if err != nil {
		fmt.Println(err)
	}
	// Output: this program is a plugin: put it into the plugins directory of an agent, which starts it
}
