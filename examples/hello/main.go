// Command hello is an HTTP server that upgrades itself while it serves.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
)

var version = "1.0.0" // go build -ldflags "-X main.version=1.1.0"

func main() {
	source, err1 := upgrade.NewSource("repo") // a directory, or https://…
	trust, err2 := upgrade.LoadTrust("keys/release.pub")
	a, err3 := agent.New(agent.Config{ID: "hello-1", Name: "hello", Version: version, StateDir: "state", Start: start,
		Etcd: agent.EtcdConfig{Endpoints: []string{"http://127.0.0.1:2379"}}, Upgrade: upgrade.Config{Source: source, Trust: trust}})
	err := errors.Join(err1, err2, err3)
	if err == nil {
		err = a.Run(context.Background())
	}
	if err != nil && !errors.Is(err, agent.ErrSuperseded) {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func start(_ context.Context, a *agent.Agent) error {
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "hello from", version) }
	ln, err := a.Listen("tcp", "127.0.0.1:8080") // inherited from the release before
	if err == nil {
		a.ServeHTTP(ln, &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: time.Minute})
	}
	return err
}
