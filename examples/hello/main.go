// Command hello is an HTTP server that upgrades itself while it serves.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

var version = "1.0.0" // go build -ldflags "-X main.version=1.1.0"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	source, err1 := release.NewSource("repo") // a directory, or https://…
	trust, err2 := release.LoadTrust("keys/release.pub")
	a, err3 := agent.New(agent.Config{ID: "hello-1", Name: "hello", Version: version, StateDir: "state", Start: start,
		Etcd: agent.EtcdConfig{Endpoints: []string{"http://127.0.0.1:2379"}}, Upgrade: upgrade.Config{Source: source, Trust: trust}})
	err := errors.Join(err1, err2, err3)
	if err == nil {
		err = a.Run(ctx)
	}
	stop()
	if code := upgrade.ExitCode(err); code != 0 {
		log.Print(err)
		os.Exit(code)
	}
}

func start(_ context.Context, a *agent.Agent) error {
	hello := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello from " + version + "\n")) }
	ln, err := a.Listen("tcp", "127.0.0.1:8080") // inherited from the release before
	if err == nil {
		a.ServeHTTP(ln, &http.Server{Handler: http.HandlerFunc(hello)})
	}
	return err
}
