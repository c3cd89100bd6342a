package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// A program that can be upgraded under load: main handles signals and the
// exit code, the agent everything else.
func Example() {
	source, err := release.NewSource("https://releases.example.com/hello")
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := agent.New(agent.Config{
		ID: "hello-1", Name: "hello", Version: "1.0.0",
		Etcd:     agent.EtcdConfig{Endpoints: []string{"http://127.0.0.1:2379"}},
		StateDir: os.TempDir() + "/hello-1",
		Upgrade:  upgrade.Config{Source: source},
		Start: func(_ context.Context, a *agent.Agent) error {
			ln, err := a.Listen("tcp", "127.0.0.1:8080")
			if err != nil {
				return err
			}
			a.ServeHTTP(ln, &http.Server{Handler: http.NotFoundHandler()})
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	run := func() error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := a.Run(ctx); !errors.Is(err, agent.ErrSuperseded) {
			return err
		}
		return nil // a successor serves now
	}
	_ = run
	fmt.Println(a.Info().ID)
	// Output: hello-1
}

// A Directory shows what agents there are and asks one for an upgrade.
func ExampleDirectory() {
	ctx := context.Background()
	d, err := agent.OpenDirectory(agent.EtcdConfig{Endpoints: []string{"http://127.0.0.1:2379"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = d.Close() }()
	pin, err := release.ParsePin("1.1.0@sha256:3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8553")
	if err != nil {
		fmt.Println(err)
		return
	}
	follow := func() error {
		order, err := d.Order(ctx, "hello-1", upgrade.Request{Pin: pin, Expect: "1.0.0", By: "operator"})
		if err != nil {
			return err
		}
		end, err := d.Follow(ctx, order, "hello-1", func(s upgrade.Status) { fmt.Println(s.State) })
		if err == nil && end.State != upgrade.Committed {
			err = errors.New(end.Reason)
		}
		return err
	}
	_ = follow
	fmt.Println(pin.Version)
	// Output: 1.1.0
}
