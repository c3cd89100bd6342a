package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// bundle is one verified pair of manifest and executable.
type bundle struct {
	manifest Manifest
	settings []byte
	source   string // the executable in the plugins directory
	identity string // digest of both files
	print    string // stat of both files when they were read
}

func (b *bundle) String() string {
	return fmt.Sprintf("%s (sha256 %.12s)", b.manifest.Version, b.manifest.SHA256)
}

// instance is one running generation of a plugin.
type instance struct {
	bundle *bundle
	proc   *process
	client *goplugin.Client
	rpc    pluginpb.PluginClient
	room   room
	log    *slog.Logger
	said   *output

	shookHands bool // go-plugin knows the process's address

	// ctx ends when the calls in flight must end.
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	inflight int
	draining bool
	idle     chan struct{} // closed once draining and nothing is in flight
}

// launcher starts instances.
type launcher struct {
	cfg   *Config
	depot *depot
	rooms *rooms
	logs  *logs
	// groups is nil where there are no cgroups.
	groups *cgroups
}

// launch starts a process of b and returns once it has said that it is
// healthy. It takes at most Config.StartTimeout; on failure nothing is left.
func (l *launcher) launch(ctx context.Context, b *bundle, log *slog.Logger, started func(pid int)) (*instance, error) {
	exe, err := l.depot.open(b.manifest.SHA256)
	if err != nil {
		if err := l.depot.deposit(b.source, b.manifest.SHA256); err != nil {
			return nil, err
		}
		if exe, err = l.depot.open(b.manifest.SHA256); err != nil {
			return nil, err
		}
	}
	i := &instance{bundle: b, log: log, idle: make(chan struct{})}
	i.ctx, i.cancel = context.WithCancel(context.WithoutCancel(ctx))
	limited, cancel := context.WithTimeout(ctx, l.cfg.StartTimeout)
	defer cancel()
	err = l.bringUp(limited, i, exe, started)
	if err == nil {
		return i, nil
	}
	ended := ctx.Err() == nil && i.brokeOff(err)
	late := ctx.Err() == nil && limited.Err() != nil
	i.discard() // joins the reader of the log
	switch {
	case errors.Is(err, errRefused):
	case late:
		err = fmt.Errorf("it was not ready within %s%s: %w", l.cfg.StartTimeout, i.said.lastWords(), err)
	case ended:
		err = fmt.Errorf("it ended before it was ready (%s%s)", i.proc.outcome(), i.said.lastWords())
	}
	return nil, err
}

// brokeOff reports whether err comes from the end of the process, which shows
// on its pipes and connection a moment before it can be reaped.
func (i *instance) brokeOff(err error) bool {
	if i.proc == nil || i.proc.ID() == "" || i.shookHands && status.Code(err) != codes.Unavailable {
		return false
	}
	wait := time.NewTimer(strayGrace)
	defer wait.Stop()
	select {
	case <-i.proc.exited:
		return true
	case <-wait.C:
		return false
	}
}

func (l *launcher) bringUp(ctx context.Context, i *instance, exe *os.File, started func(pid int)) error {
	name := i.bundle.manifest.Name
	var err error
	if i.room, err = l.rooms.open(name); err != nil {
		return errors.Join(err, exe.Close())
	}
	if i.said, err = createOutput(i.room.dir, l.logs.file(name), i.log); err != nil {
		return errors.Join(err, exe.Close())
	}
	i.proc = newProcess(processConfig{
		exe: exe, name: name, dir: i.room.dir, limits: i.bundle.manifest.Limits,
		groups: l.groups, out: i.said, log: i.log,
	})
	// Nothing in go-plugin has a deadline that holds on a stopped process;
	// the death of the process is what ends every wait.
	release := context.AfterFunc(ctx, i.proc.kill)
	defer release()
	i.client = goplugin.NewClient(l.clientConfig(i, started))
	if _, err := i.client.Start(); err != nil {
		return err
	}
	i.shookHands = true
	if i.hasExited() {
		return errors.New("it ended right after the handshake")
	}
	conn, err := i.client.Client()
	if err != nil {
		return err
	}
	raw, err := conn.Dispense(dispensed)
	if err != nil {
		return err
	}
	rpc, ok := raw.(pluginpb.PluginClient)
	if !ok {
		return fmt.Errorf("dispensed %T", raw)
	}
	i.rpc = rpc
	return i.introduce(ctx)
}

// introduce checks that the process is what the manifest says and starts it.
func (i *instance) introduce(ctx context.Context) error {
	m := &i.bundle.manifest
	info, err := i.rpc.Info(ctx, &pluginpb.InfoRequest{})
	if err != nil {
		return fmt.Errorf("info: %w", plain(err))
	}
	if info.GetName() != m.Name || info.GetVersion() != m.Version {
		return fmt.Errorf("%w: the manifest says %s %s, the executable says %q %q; correct the manifest or rebuild the executable", errRefused, m.Name, m.Version, info.GetName(), info.GetVersion())
	}
	for _, c := range m.Capabilities {
		if !slices.Contains(info.GetCapabilities(), c) {
			return fmt.Errorf("%w: the manifest promises the capability %q, the executable has %q", errRefused, c, info.GetCapabilities())
		}
	}
	if _, err := i.rpc.Start(ctx, &pluginpb.StartRequest{Settings: i.bundle.settings}); err != nil {
		return fmt.Errorf("start: %w", plain(err))
	}
	problem, err := i.health(ctx)
	if err != nil {
		return err
	}
	if problem != "" {
		return fmt.Errorf("it is not healthy after its start: %s", problem)
	}
	return nil
}

// health returns the problem that the plugin reports, or an error if it does
// not answer.
func (i *instance) health(ctx context.Context) (problem string, err error) {
	answer, err := i.rpc.Health(ctx, &pluginpb.HealthRequest{})
	if err != nil {
		return "", fmt.Errorf("health: %w", plain(err))
	}
	return answer.GetProblem(), nil
}

// enter admits a call to the instance unless it drains.
func (i *instance) enter() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.draining {
		return false
	}
	i.inflight++
	return true
}

func (i *instance) leave() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.inflight--
	if i.draining && i.inflight == 0 {
		close(i.idle)
	}
}

func (i *instance) hasExited() bool {
	select {
	case <-i.proc.exited:
		return true
	default:
		return false
	}
}

// drain ends the instance: its tasks first, so that what they have produced
// arrives, then the process. It returns within timeout and the moment that a
// kill takes.
func (i *instance) drain(timeout time.Duration) {
	i.mu.Lock()
	i.draining = true
	if i.inflight == 0 {
		close(i.idle)
	}
	i.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(i.ctx), timeout)
	defer cancel()
	release := context.AfterFunc(ctx, i.proc.kill)
	defer release()
	if _, err := i.rpc.Stop(ctx, &pluginpb.StopRequest{}); err != nil {
		i.log.Warn("plugin did not stop in order", "error", plain(err))
	}
	select {
	case <-i.idle:
	case <-ctx.Done():
	}
	i.discard()
}

// discard ends what is left of the instance and returns once its process has
// been reaped. A process still alive is asked by go-plugin to shut down for 2 s
// at most, then killed.
func (i *instance) discard() {
	i.cancel()
	// Between handshake and connection go-plugin's Kill would make a
	// connection only to close it, and leak it if the process has died.
	if i.client != nil && (i.rpc != nil || !i.shookHands) {
		i.client.Kill()
	}
	if i.proc != nil {
		i.proc.kill()
		if i.proc.ID() != "" {
			<-i.proc.exited
		}
		<-i.said.done
	}
	i.room.close()
}

// dispensed is the only name in go-plugin's plugin set.
const dispensed = "plugin"

func (l *launcher) clientConfig(i *instance, started func(pid int)) *goplugin.ClientConfig {
	set := goplugin.PluginSet{dispensed: clientSide{}}
	return &goplugin.ClientConfig{
		HandshakeConfig: goplugin.HandshakeConfig{
			ProtocolVersion:  pluginpb.ProtocolVersion,
			MagicCookieKey:   pluginpb.CookieKey,
			MagicCookieValue: pluginpb.CookieValue,
		},
		VersionedPlugins: map[int]goplugin.PluginSet{pluginpb.ProtocolVersion: set},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true,
		StartTimeout:     l.cfg.StartTimeout,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: i.room.dir},
		SyncStdout:       i.said.said,
		SyncStderr:       i.said.said,
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard}),
		GRPCDialOptions: []grpc.DialOption{grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(pluginpb.MaxMessageBytes),
			grpc.MaxCallSendMsgSize(pluginpb.MaxMessageBytes),
		)},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			i.proc.addEnv(cmd.Env)
			return &announced{process: i.proc, started: func(pid int) {
				i.room.occupy(pid)
				started(pid)
			}}, nil
		},
	}
}

// announced tells of the process as soon as there is one.
type announced struct {
	*process
	started func(pid int)
}

// Start implements runner.Runner.
func (a *announced) Start(ctx context.Context) error {
	if err := a.process.Start(ctx); err != nil {
		return err
	}
	a.started(a.pid())
	return nil
}

// clientSide makes the gRPC client.
type clientSide struct {
	goplugin.NetRPCUnsupportedPlugin
}

// GRPCServer implements go-plugin's GRPCPlugin; a host serves nothing.
func (clientSide) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.ErrUnsupported
}

// GRPCClient implements go-plugin's GRPCPlugin.
func (clientSide) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return pluginpb.NewPluginClient(conn), nil
}

// plain strips gRPC's wording from an error that the plugin itself returned.
func plain(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	switch s.Code() {
	case codes.Unknown, codes.FailedPrecondition, codes.Internal, codes.Unimplemented, codes.Aborted:
		return errors.New(s.Message())
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Canceled:
		return context.Canceled
	default:
		return err
	}
}
