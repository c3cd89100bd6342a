// Command echo answers each task with one result that has the task's
// payload: as a plugin, or with --serve on a plain gRPC server that is
// otherwise the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"google.golang.org/grpc"

	"github.com/perennial-go/perennial/plugin/pluginpb"
	"github.com/perennial-go/perennial/plugin/sdk"
)

func main() {
	socket := flag.String("serve", "", "serve plain gRPC on the Unix `socket` instead of being a plugin")
	flag.Parse()
	err := run(*socket)
	if err != nil && !errors.Is(err, sdk.ErrHostGone) {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func run(socket string) error {
	if socket == "" {
		// A host starts it by the plugin's name, of which there may be many.
		return sdk.Serve(sdk.Config{Name: filepath.Base(os.Args[0]), Version: "1.0.0", Capabilities: []string{"echo"}}, echo{})
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	pluginpb.RegisterPluginServer(server, plain{})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, server.Stop)
	fmt.Println("serves on", socket)
	return server.Serve(listener)
}

type echo struct{}

func (echo) Start(context.Context, []byte) error { return nil }
func (echo) Health(context.Context) error        { return nil }
func (echo) Stop(context.Context) error          { return nil }

func (echo) Execute(_ context.Context, task sdk.Task, send func(sdk.Result) error) error {
	return send(sdk.Result{Payload: task.Payload})
}

type plain struct {
	pluginpb.UnimplementedPluginServer
}

func (plain) Execute(task *pluginpb.Task, stream grpc.ServerStreamingServer[pluginpb.Result]) error {
	return stream.Send(&pluginpb.Result{Payload: task.GetPayload()})
}
