package plugin

import (
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	retry "github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// dispensed is the only name in go-plugin's plugin set.
const dispensed = "plugin"

// link is the connection of a host with a plugin's process. go-plugin makes
// it, and looks after nothing else: its own end of a process has no deadline
// that holds on a stopped one, and would end what is to outlive the host.
type link struct {
	rpc  pluginpb.PluginClient
	addr net.Addr
	proc *hold
	// protocol is the negotiated version, which go-plugin knows of a process
	// that it has started only.
	protocol int
	conn     *grpc.ClientConn
	broker   *goplugin.GRPCBroker

	// life ends what holds the plugin; holding joins it.
	life    context.Context
	end     context.CancelFunc
	holding sync.WaitGroup
}

// hold is go-plugin's view of a process: it lasts until that ends or the host
// lets go of it.
type hold struct {
	*process
	once sync.Once
	free chan struct{}
}

func newHold(p *process) *hold { return &hold{process: p, free: make(chan struct{})} }

func (h *hold) release() { h.once.Do(func() { close(h.free) }) }

// Wait implements runner.AttachedRunner.
func (h *hold) Wait(context.Context) error {
	select {
	case <-h.exited:
	case <-h.free:
	}
	return nil
}

// link starts the process and connects to it. On failure the process may run.
func (l *launcher) link(ctx context.Context, i *instance, r *announced) (*link, error) {
	k := newLink(r.hold)
	cfg := k.clientConfig()
	cfg.StartTimeout = l.cfg.StartTimeout
	cfg.UnixSocketConfig = &goplugin.UnixSocketConfig{TempDir: i.room.dir}
	cfg.RunnerFunc = func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
		i.proc.addEnv(cmd.Env)
		return r, nil
	}
	return k.open(ctx, goplugin.NewClient(cfg))
}

// relink connects to the process p, which r is about.
func relink(ctx context.Context, p *process, r *record) (*link, error) {
	if _, _, err := p.PluginToHost("unix", r.Socket); err != nil {
		return nil, err
	}
	k := newLink(newHold(p))
	k.protocol = r.Protocol
	cfg := k.clientConfig()
	cfg.Reattach = &goplugin.ReattachConfig{
		Protocol: goplugin.ProtocolGRPC, Addr: &net.UnixAddr{Net: "unix", Name: r.Socket},
		ReattachFunc: func() (runner.AttachedRunner, error) { return k.proc, nil },
	}
	return k.open(ctx, goplugin.NewClient(cfg))
}

func newLink(h *hold) *link {
	k := &link{proc: h}
	k.life, k.end = context.WithCancel(context.Background())
	return k
}

// open completes k, or closes it.
func (k *link) open(ctx context.Context, client *goplugin.Client) (*link, error) {
	err := k.fill(client)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (k *link) fill(client *goplugin.Client) (err error) {
	if k.addr, err = client.Start(); err != nil {
		return err
	}
	if v := client.NegotiatedVersion(); v != 0 {
		k.protocol = v
	}
	protocol, err := client.Client()
	if err != nil {
		return err
	}
	_, err = protocol.Dispense(dispensed) // calls GRPCClient below
	return err
}

// close ends everything of the connection, and nothing of the process.
func (k *link) close() {
	k.end()
	k.proc.release()
	if k.broker != nil {
		_ = k.broker.Close()
	}
	if k.conn != nil {
		_ = k.conn.Close()
	}
	k.holding.Wait()
}

// attach tells the plugin that this host looks after it, until the link is
// closed, and returns whether it has been started before.
func (k *link) attach(ctx context.Context, hostVersion string) (started bool, err error) {
	life, cancel := context.WithCancel(k.life)
	open := context.AfterFunc(ctx, cancel)
	stream, err := k.rpc.Attach(life, &pluginpb.AttachRequest{HostVersion: hostVersion})
	var first *pluginpb.AttachResponse
	if err == nil {
		first, err = stream.Recv()
	}
	if !open() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return false, err
	}
	k.holding.Go(func() {
		defer cancel()
		k.hold(stream, hostVersion)
	})
	return first.GetStarted(), nil
}

// hold attaches anew when the connection breaks while the process lives.
func (k *link) hold(stream grpc.ServerStreamingClient[pluginpb.AttachResponse], hostVersion string) {
	pause := retry.Backoff{Min: 50 * time.Millisecond, Max: time.Second}
	for {
		var err error
		for stream != nil && err == nil {
			if _, err = stream.Recv(); err == nil {
				pause.Reset()
			}
		}
		if pause.Wait(k.life) != nil {
			return
		}
		if stream, err = k.rpc.Attach(k.life, &pluginpb.AttachRequest{HostVersion: hostVersion}); err != nil {
			stream = nil
		}
	}
}

func (k *link) clientConfig() *goplugin.ClientConfig {
	set := goplugin.PluginSet{dispensed: clientSide{link: k}}
	return &goplugin.ClientConfig{
		HandshakeConfig: goplugin.HandshakeConfig{
			ProtocolVersion:  pluginpb.ProtocolVersion,
			MagicCookieKey:   pluginpb.CookieKey,
			MagicCookieValue: pluginpb.CookieValue,
		},
		// The first is ignored where the process runs already, the second
		// where it does not.
		VersionedPlugins: map[int]goplugin.PluginSet{pluginpb.ProtocolVersion: set},
		Plugins:          set,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		// A Unix socket is private to this user, and its owner is checked. On
		// Windows there is a TCP port, and no host but the first needs it.
		AutoMTLS:    runtime.GOOS == "windows",
		SkipHostEnv: true,
		Logger:      hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard}),
		GRPCDialOptions: []grpc.DialOption{
			// These come after go-plugin's own, and so are the ones in force.
			grpc.WithContextDialer(k.dial),
			grpc.WithStreamInterceptor(ownStreams),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: 5 * time.Second,
			}),
			grpc.WithDefaultCallOptions(
				grpc.MaxCallRecvMsgSize(pluginpb.MaxMessageBytes),
				grpc.MaxCallSendMsgSize(pluginpb.MaxMessageBytes),
			),
		},
	}
}

// dial connects to the socket if the plugin's process has it.
func (k *link) dial(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, k.addr.Network(), k.addr.String())
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn, k.proc.pid()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// ownStreams refuses the streams that go-plugin opens for its broker and for
// what the plugin writes to standard output: nothing uses them, the plugin's
// side has each once in its life, and opening them has no deadline.
func ownStreams(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if !strings.HasPrefix(method, "/"+pluginpb.Plugin_ServiceDesc.ServiceName+"/") {
		return nil, status.Error(codes.Unimplemented, "not used")
	}
	return open(ctx, desc, conn, method, opts...)
}

// clientSide takes the connection from go-plugin.
type clientSide struct {
	goplugin.NetRPCUnsupportedPlugin
	link *link
}

// GRPCServer implements go-plugin's GRPCPlugin; a host serves nothing.
func (clientSide) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.ErrUnsupported
}

// GRPCClient implements go-plugin's GRPCPlugin.
func (s clientSide) GRPCClient(_ context.Context, broker *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	s.link.broker, s.link.conn, s.link.rpc = broker, conn, pluginpb.NewPluginClient(conn)
	return s.link, nil
}

// plain strips gRPC's wording from an error that the plugin itself returned.
func plain(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	switch s.Code() {
	case codes.Unknown, codes.FailedPrecondition, codes.Internal, codes.Unimplemented, codes.Aborted, codes.InvalidArgument:
		return errors.New(s.Message())
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Canceled:
		return context.Canceled
	default:
		return err
	}
}
