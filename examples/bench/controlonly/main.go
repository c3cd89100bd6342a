// Command controlonly moves the rollouts of a fleet on, and does nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

func main() {
	url := flag.String("etcd", "", "`URL` of an etcd")
	root := flag.String("root", "", "`prefix` of all keys")
	fleet := flag.String("fleet", "", "the `fleet`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *url, *root, *fleet)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "controlonly:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, root, fleet string) error {
	directory, err := agent.OpenDirectory(agent.EtcdConfig{Endpoints: []string{url}, Root: root})
	if err != nil {
		return err
	}
	defer func() { _ = directory.Close() }()
	elected := false
	controller, err := directory.RolloutController(rollout.ControllerConfig{
		Fleet: fleet, ID: "controlonly", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Observe: func(o rollout.Observation) {
			if o.Elected && !elected {
				elected = true
				fmt.Println("controls", url)
			}
		},
	})
	if err != nil {
		return err
	}
	return controller.Run(ctx)
}
