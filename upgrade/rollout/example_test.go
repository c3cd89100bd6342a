package rollout_test

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

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
}
