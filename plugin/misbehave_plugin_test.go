//go:build linux

package plugin_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/perennial-go/perennial/plugin/pluginpb"
	"github.com/perennial-go/perennial/plugin/sdk"
)

// misbehaviour is what a plugin does that it should not.
type misbehaviour = string

const (
	writesGarbage   misbehaviour = "garbage"   // instead of a handshake
	namesForeign    misbehaviour = "foreign"   // an address, in the handshake
	diesGreeting    misbehaviour = "half"      // in the middle of the handshake
	closesAll       misbehaviour = "silent"    // its output, before the handshake
	closesOutput    misbehaviour = "mute"      // after it
	hangsEverywhere misbehaviour = "hangs"     // once it runs
	sendsHuge       misbehaviour = "huge"      // messages of 100 MB
	ignoresTerm     misbehaviour = "deaf"      // SIGTERM, and Stop
	floodsLog       misbehaviour = "floods"    // for ever
	leavesGroup     misbehaviour = "offspring" // with its descendants
	leaksMemory     misbehaviour = "leaks"     // until it has no more
	numbersLines    misbehaviour = "numbers"   // of its log, to both streams, for ever
)

const hugeBytes = 100 << 20

// misbehave is the main of a plugin that does what it should not.
func misbehave(s spec) error {
	switch s.Misbehave {
	case writesGarbage:
		_, _ = os.Stdout.Write(bytes.Repeat([]byte("\xff\x00|"), 1<<20))
		select {}
	case namesForeign:
		fmt.Println("1|1|tcp|127.0.0.1:9|grpc|")
		select {}
	case diesGreeting:
		fmt.Print("1|1|uni")
		syscall.Exit(3)
	case closesAll:
		_, _ = os.Stdout.Close(), os.Stderr.Close()
		select {}
	case hangsEverywhere, sendsHuge:
		return serveRaw(s)
	}
	return sdk.Serve(sdk.Config{Name: s.Name, Version: s.Version, Capabilities: capabilities()},
		&badPlugin{testPlugin: &testPlugin{spec: s}})
}

// badPlugin misbehaves once it runs.
type badPlugin struct {
	*testPlugin

	leak [][]byte
}

func (p *badPlugin) Start(context.Context, []byte) error {
	switch p.spec.Misbehave {
	case closesOutput:
		_, _ = os.Stdout.Close(), os.Stderr.Close()
	case ignoresTerm:
		signal.Ignore(syscall.SIGTERM)
	case leaksMemory:
		go func() {
			for n := 1; ; n++ {
				p.leak = append(p.leak, bytes.Repeat([]byte{1}, 1<<20))
				<-time.After(time.Millisecond)
			}
		}()
	case numbersLines:
		go func() {
			for n := 1; ; n++ {
				_, _ = fmt.Printf("out %d\n", n)
				_, _ = fmt.Fprintf(os.Stderr, "err %d\n", n)
				if n%20 == 0 {
					<-time.After(10 * time.Millisecond) // within the pace
				}
			}
		}()
	case floodsLog:
		line := []byte(strings.Repeat("all is well ", 20) + "\n")
		go func() {
			for {
				_, _ = os.Stderr.Write(line)
			}
		}()
	}
	return nil
}

func (p *badPlugin) Stop(context.Context) error {
	if p.spec.Misbehave == ignoresTerm {
		select {}
	}
	return nil
}

// Execute starts a descendant that leaves group and session, and whose parent
// exits, and yields its process id.
func (p *badPlugin) Execute(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	if task.Capability != "offspring" {
		return p.testPlugin.Execute(ctx, task, send)
	}
	pid, err := exec.CommandContext(ctx, "setsid", "sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		return err
	}
	return send(sdk.Result{Payload: bytes.TrimSpace(pid)})
}

// serveRaw serves without the sdk, which would not let it.
func serveRaw(s spec) error {
	lis, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "raw"))
	if err != nil {
		return err
	}
	fmt.Printf("1|%d|unix|%s|grpc|\n", pluginpb.ProtocolVersion, lis.Addr())
	g := grpc.NewServer()
	pluginpb.RegisterPluginServer(g, &rawPlugin{spec: s})
	return g.Serve(lis)
}

type rawPlugin struct {
	pluginpb.UnimplementedPluginServer

	spec  spec
	ready atomic.Bool
}

// act is called by everything but what a plugin must do to run.
func (p *rawPlugin) act() {
	if p.spec.Misbehave == hangsEverywhere {
		select {}
	}
}

func (p *rawPlugin) Info(context.Context, *pluginpb.InfoRequest) (*pluginpb.InfoResponse, error) {
	return &pluginpb.InfoResponse{Name: p.spec.Name, Version: p.spec.Version, Capabilities: capabilities()}, nil
}

func (p *rawPlugin) Attach(_ *pluginpb.AttachRequest, stream grpc.ServerStreamingServer[pluginpb.AttachResponse]) error {
	if err := stream.Send(&pluginpb.AttachResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p *rawPlugin) Start(context.Context, *pluginpb.StartRequest) (*pluginpb.StartResponse, error) {
	return &pluginpb.StartResponse{}, nil
}

func (p *rawPlugin) Health(context.Context, *pluginpb.HealthRequest) (*pluginpb.HealthResponse, error) {
	if p.ready.Swap(true) {
		p.act()
	}
	return &pluginpb.HealthResponse{}, nil
}

func (p *rawPlugin) Execute(_ *pluginpb.Task, stream grpc.ServerStreamingServer[pluginpb.Result]) error {
	p.act()
	return stream.Send(&pluginpb.Result{Payload: make([]byte, hugeBytes)})
}

func (p *rawPlugin) Stop(context.Context, *pluginpb.StopRequest) (*pluginpb.StopResponse, error) {
	p.act()
	return &pluginpb.StopResponse{}, nil
}
