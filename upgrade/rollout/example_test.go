package rollout_test

import (
	"context"
	"errors"
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
func ExampleNewController() {
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
	run := func(ctx context.Context) error { return controller.Run(ctx) } // until ctx ends
	_ = run
	fmt.Println(err)
	// Output: <nil>
}

// An agent that follows the plan of its fleet, and stands for election as the one
// that controls it.
func ExampleControllerConfig() {
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

// A rollout is begun, and one that was halted is brought back.
func ExampleOperator() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://127.0.0.1:2379"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = client.Close() }()
	operator, err := rollout.NewOperator(rollout.OperatorConfig{Client: client, Fleet: "shop"})
	if err != nil {
		fmt.Println(err)
		return
	}
	begin := func(ctx context.Context, pin release.Pin) (rollout.Plan, error) {
		p := rollout.Plan{Target: rollout.Target{Release: pin, Program: "shop"}, OnFailure: rollout.Halt, By: "deploy"}
		p.Stages = rollout.DefaultCanary()
		p.Stages[0].Judge.Checks = []rollout.Check{{Kind: "orders"}}
		return operator.Start(ctx, p, rollout.StartOptions{})
	}
	act := rollout.Act{By: "deploy", Reason: "too many orders failed"}
	end := func(ctx context.Context) error {
		_, err := operator.Promote(ctx, rollout.PromoteOptions{Act: act})
		if errors.Is(err, rollout.ErrState) { // it was halted
			_, err = operator.Revert(ctx, rollout.RevertOptions{Act: act})
		}
		return err
	}
	_, _ = begin, end
	fmt.Println(act.By)
	// Output: deploy
}
