package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/perennial-go/perennial/agent"
)

// visits is what a program counts in memory. Both methods may be called while
// requests are served.
type visits struct {
	mu     sync.Mutex
	byPage map[string]int
}

func (v *visits) SaveState(context.Context) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return json.Marshal(v.byPage)
}

func (v *visits) RestoreState(_ context.Context, state []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return json.Unmarshal(state, &v.byPage)
}

// A program hands what it has in memory to the release that takes its place.
// JSON ignores members that it does not know: a release may add some and
// still be rolled back.
func ExampleConfig_state() {
	ctx := context.Background()
	incumbent := &visits{byPage: map[string]int{"/": 41}}
	_ = agent.Config{State: incumbent} // and so on

	// What the agents of both releases do during an upgrade:
	saved, err := incumbent.SaveState(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	successor := &visits{}
	if err := successor.RestoreState(ctx, saved); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(successor.byPage["/"])
	// Output: 41
}
