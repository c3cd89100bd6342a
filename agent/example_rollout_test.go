package agent_test

import (
	"context"
	"fmt"
	"net/http"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// orders asks the shop itself whether a stage is well.
type orders struct {
	failed func(context.Context) (int, error)
}

// Check answers a check {kind: orders} of a plan.
func (o orders) Check(ctx context.Context, _ rollout.Check, p *rollout.Plan) (rollout.Verdict, string, error) {
	n, err := o.failed(ctx)
	if err != nil {
		return rollout.Inconclusive, "", err // it is asked again
	}
	why := fmt.Sprintf("%d orders have failed in stage %d", n, p.Stage+1)
	if n > 3 {
		return rollout.Fail, why, nil
	}
	return rollout.Pass, why, nil
}

// A controller of one's own, with a check in Go. Any number may run: one works.
func ExampleRolloutFleet() {
	endpoints := []string{"http://127.0.0.1:2379"}
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = client.Close() }()
	directory, err := agent.OpenDirectory(agent.EtcdConfig{Endpoints: endpoints})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = directory.Close() }()
	none := func(context.Context) (int, error) { return 0, nil }
	controller, err := rollout.NewController(rollout.ControllerConfig{
		Client: client, Fleet: "shop", ID: "controller-1",
		Agents:   agent.RolloutFleet(directory, "shop"),
		Checkers: map[string]rollout.Checker{"orders": orders{none}},
		Notify:   func(_ context.Context, r rollout.Record) { fmt.Println(r.By, r.Event, r.Why) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(controller.Run(context.Background())) // until its context ends
}

// An agent that follows the plan of its fleet, and stands for election as the one
// that controls it.
func ExampleConfig_rollout() {
	source, err := release.NewSource("https://releases.example.com/shop")
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := agent.Config{
		ID: "shop-1", Name: "shop", Version: "1.0.0", StateDir: os.TempDir() + "/shop-1",
		Etcd: agent.EtcdConfig{Endpoints: []string{"http://127.0.0.1:2379"}},
		Rollout: agent.Rollout{
			Fleet: "shop", Controller: true,
			Control: rollout.ControllerConfig{Checkers: map[string]rollout.Checker{
				"orders": orders{func(context.Context) (int, error) { return 0, nil }},
			}},
		},
	}
	cfg.Upgrade.Source = source
	cfg.Start = func(_ context.Context, a *agent.Agent) error {
		ln, err := a.Listen("tcp", "127.0.0.1:8080")
		if err != nil {
			return err
		}
		a.ServeHTTP(ln, &http.Server{Handler: http.NotFoundHandler()})
		return nil
	}
	a, err := agent.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(a.Info().ID)
	// Output: shop-1
}
