//go:build unix

package plugintest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// raw is a plugin that is made of gRPC and pluginpb alone, as one in another
// language would be: all that the protocol asks for is in this file.
type raw struct {
	pluginpb.UnimplementedPluginServer

	name, version string
	service       pluginpb.PluginServer // raw itself, unless a test spoils it
	options       []grpc.ServerOption
	listener      net.Listener

	mu      sync.Mutex
	started bool
	hosts   int
	orphan  *time.Timer
	stopped bool
	stop    chan struct{}  // closed by Stop
	tasks   sync.WaitGroup // those that run; none is added once stopped
}

// rawStop bounds the end of an orphan.
const rawStop = 3 * time.Second

func newRaw(name, version string) *raw {
	r := &raw{name: name, version: version, stop: make(chan struct{})}
	r.service = r
	r.options = []grpc.ServerOption{
		grpc.MaxRecvMsgSize(pluginpb.MaxMessageBytes), grpc.MaxSendMsgSize(pluginpb.MaxMessageBytes),
	}
	return r
}

// serve is the plugin's main. SIGTERM ends the process by default.
func (r *raw) serve() error {
	if os.Getenv(pluginpb.CookieKey) != pluginpb.CookieValue {
		return errors.New("this program is a plugin")
	}
	seconds, err := strconv.Atoi(os.Getenv(pluginpb.OrphanKey))
	if err != nil {
		seconds = pluginpb.OrphanSeconds
	}
	address := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "raw.sock")
	if r.listener == nil {
		if r.listener, err = net.Listen("unix", address); err != nil {
			return err
		}
	}
	server := grpc.NewServer(r.options...)
	pluginpb.RegisterPluginServer(server, r.service)
	r.mu.Lock()
	r.orphan = time.AfterFunc(time.Duration(seconds)*time.Second, func() { r.abandon(server) })
	r.mu.Unlock()
	fmt.Printf("1|%d|unix|%s|grpc|\n", pluginpb.ProtocolVersion, address)
	return server.Serve(r.listener)
}

// abandon ends the plugin that no host is attached to.
func (r *raw) abandon(server *grpc.Server) {
	late := time.AfterFunc(rawStop, server.Stop)
	defer late.Stop()
	r.end()
	server.GracefulStop() // Serve returns
}

func (r *raw) Info(context.Context, *pluginpb.InfoRequest) (*pluginpb.InfoResponse, error) {
	return &pluginpb.InfoResponse{Name: r.name, Version: r.version, Capabilities: []string{"count", "large", "loud", "hopeless"}}, nil
}

func (r *raw) Attach(_ *pluginpb.AttachRequest, stream grpc.ServerStreamingServer[pluginpb.AttachResponse]) error {
	r.mu.Lock()
	r.hosts++
	r.orphan.Stop()
	started := r.started
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.hosts--; r.hosts == 0 {
			seconds, _ := strconv.Atoi(os.Getenv(pluginpb.OrphanKey))
			r.orphan.Reset(time.Duration(seconds) * time.Second)
		}
	}()
	if err := stream.Send(&pluginpb.AttachResponse{Started: started}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (r *raw) Start(_ context.Context, in *pluginpb.StartRequest) (*pluginpb.StartResponse, error) {
	if strings.Contains(string(in.GetSettings()), "bad") {
		return nil, status.Error(codes.FailedPrecondition, "the settings are bad")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = true
	return &pluginpb.StartResponse{}, nil
}

func (r *raw) Health(context.Context, *pluginpb.HealthRequest) (*pluginpb.HealthResponse, error) {
	return &pluginpb.HealthResponse{}, nil
}

func (r *raw) Execute(task *pluginpb.Task, stream grpc.ServerStreamingServer[pluginpb.Result]) error {
	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return status.Error(codes.Aborted, "the plugin was stopped")
	}
	r.tasks.Add(1)
	r.mu.Unlock()
	defer r.tasks.Done()
	switch task.GetCapability() {
	case "count":
		return r.count(task, stream)
	case "large":
		return stream.Send(&pluginpb.Result{Payload: make([]byte, pluginpb.MaxMessageBytes-16)})
	case "loud":
		_, err := os.Stderr.WriteString(strings.Repeat(strings.Repeat("hear me out ", 80)+"\n", 1200))
		return err
	case "hopeless":
		return status.Error(codes.InvalidArgument, "nobody can do that")
	}
	return status.Errorf(codes.Unimplemented, "capability %q", task.GetCapability())
}

// count yields the numbers after the cursor, up to that in the payload.
func (r *raw) count(task *pluginpb.Task, stream grpc.ServerStreamingServer[pluginpb.Result]) error {
	n, _ := strconv.Atoi(task.GetCursor())
	last, err := strconv.Atoi(string(task.GetPayload()))
	for err != nil || n < last {
		select {
		case <-r.stop:
			return status.Error(codes.Aborted, "the plugin was stopped")
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		default:
		}
		n++
		number := strconv.Itoa(n)
		if err := stream.Send(&pluginpb.Result{Payload: []byte(number), Cursor: number}); err != nil {
			return err
		}
	}
	return nil
}

func (r *raw) Stop(context.Context, *pluginpb.StopRequest) (*pluginpb.StopResponse, error) {
	r.end()
	return &pluginpb.StopResponse{}, nil
}

// end ends the tasks and returns when they have ended.
func (r *raw) end() {
	r.mu.Lock()
	if !r.stopped {
		r.stopped = true
		close(r.stop)
	}
	r.mu.Unlock()
	r.tasks.Wait()
}
