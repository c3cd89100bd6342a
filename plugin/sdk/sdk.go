// Package sdk is what the author of a plugin imports: implement Plugin, or
// write one function and make it a Func, and call Serve from main.
//
// # What a plugin can rely on
//
// Start is called once, before anything else, and Stop once at the end.
// Execute and Health are called at any time between, concurrently. When the
// plugin is stopped or replaced, the context of every Execute ends first;
// what Execute has sent by then, and what it sends before it returns, still
// reaches the host.
//
// # Outliving the host
//
// The plugin runs on while its host is upgraded, is rolled back, or was killed
// and is started again: the next host takes it over as it is, and Start is not
// called again. Tasks of the host that ended have their contexts ended, and
// come again with the cursors that it kept. Where no host comes within the time
// that the last one set (60 s by default), the plugin is stopped in order and
// Serve returns ErrHostGone. On Linux the kernel kills it 5 s after that, even
// if it is stopped or deadlocked; it does the same to a plugin whose process is
// stopped (SIGSTOP) for that long under a host, which asks the plugin for its
// health and would kill it before.
//
// # Losing nothing over restarts
//
// A Result carries a cursor: an opaque point from which work can resume after
// that result. The host keeps the cursor only once it has made the payload
// durable, and hands it back in the next Task. A plugin that resumes exactly
// there delivers every record at least once, whatever crashed in between.
//
// # Surroundings
//
// The process runs in a directory of its own that is deleted afterwards, with
// an environment of PATH, HOME, TZ, LANG and little else. What it writes to
// standard error and standard output reaches the host's log; Logger writes
// there in a form that keeps levels and attributes. Serve handles SIGTERM,
// SIGINT, SIGHUP and SIGPIPE: the first stops the plugin in order, the others
// do nothing.
package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// Errors that Serve returns.
var (
	// ErrNotHosted means that the program was not started by a host.
	ErrNotHosted = errors.New("this program is a plugin: put it into the plugins directory of an agent, which starts it")
	// ErrHostGone means that the host ended without stopping the plugin, and
	// that no other took its place in time.
	ErrHostGone = errors.New("the host is gone")
)

// Plugin is what an author implements. All methods must be safe for
// concurrent use.
type Plugin interface {
	// Start receives the manifest's settings as a JSON object, nil when there
	// are none. An error keeps the plugin from running; the host shows its
	// text and tries again with back-off.
	Start(ctx context.Context, settings []byte) error

	// Execute runs one task: it calls send for every result, from one
	// goroutine at a time, and returns when the task is done or ctx has ended,
	// which carries the task's deadline if it has one. send blocks while the
	// host is slower; after an error of send Execute should return it. An error
	// is shown to whoever asked for the task, and the task may be tried again:
	// one that no attempt can cure is to be made Permanent.
	// Where the host traces, ctx has the span that this call is below, in
	// OpenTelemetry's sense: a tracer of the plugin's own goes on with it.
	Execute(ctx context.Context, task Task, send func(Result) error) error

	// Health returns nil when all is well. An error marks the plugin as
	// degraded; no answer within the host's timeout (default 5 s) twice in a
	// row gets it killed and restarted.
	Health(ctx context.Context) error

	// Stop releases what Start acquired. Every Execute has had its context
	// ended, and has returned unless ctx ended first.
	Stop(ctx context.Context) error
}

// Func is a Plugin that consists of Execute alone: it needs no settings, is
// well as long as it answers, and has nothing to release.
type Func func(ctx context.Context, task Task, send func(Result) error) error

// Start implements Plugin.
func (f Func) Start(context.Context, []byte) error { return nil }

// Execute implements Plugin.
func (f Func) Execute(ctx context.Context, task Task, send func(Result) error) error {
	return f(ctx, task, send)
}

// Health implements Plugin.
func (f Func) Health(context.Context) error { return nil }

// Stop implements Plugin.
func (f Func) Stop(context.Context) error { return nil }

// Task is one piece of work.
type Task struct {
	// ID identifies the task in logs.
	ID string
	// Capability is what is asked for, one of Config.Capabilities.
	Capability string
	// Payload is the task's input, of a form that the capability defines.
	Payload []byte
	// Cursor is the resume point of the last result that the host made
	// durable, "" to begin.
	Cursor string
	// Attempt says how often the task may have been begun before: 0 the first
	// time, and then only.
	Attempt int
	// IdempotencyKey is the same for every attempt at the same piece of work,
	// however often it was submitted; "" when whoever submitted it gave none.
	IdempotencyKey string
}

// Result is one piece of what a task yields. Encoded it must stay below 16 MiB.
type Result struct {
	// Payload is the result, of a form that the capability defines. The
	// plugin may reuse the slice once send has returned.
	Payload []byte
	// Cursor is where to resume after this result, "" if that is unknown.
	Cursor string
}

// Permanent marks an error of Execute as one that no other attempt can cure,
// here or elsewhere, such as input that makes no sense. nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

// Config says what the plugin is.
type Config struct {
	// Name must be that of the manifest.
	Name string
	// Version is a SemVer version and must be that of the manifest.
	Version string
	// Capabilities are the kinds of task that Execute accepts. Any other is
	// refused before it reaches Execute.
	Capabilities []string
}

// Serve runs impl until the host stops it. It must be the last thing that
// main does: nil means stopped by the host, ErrHostGone that there is none any
// more, ErrNotHosted that a user started the program by hand. Nothing may be
// written to standard output before.
func Serve(cfg Config, impl Plugin) error {
	if cfg.Name == "" || cfg.Version == "" || impl == nil {
		return fmt.Errorf("plugin: Config.Name %q and Config.Version %q must be set, and the implementation must not be nil", cfg.Name, cfg.Version)
	}
	if os.Getenv(pluginpb.CookieKey) != pluginpb.CookieValue {
		return ErrNotHosted
	}
	showName(cfg.Name)
	s := newServer(cfg, impl)
	s.hosts = awaitHosts(orphanLimit(os.Getenv(pluginpb.OrphanKey)), s.abandon)
	defer s.hosts.close()
	defer handleSignals(s)()
	serve(&goplugin.ServeConfig{
		HandshakeConfig: goplugin.HandshakeConfig{
			ProtocolVersion:  pluginpb.ProtocolVersion,
			MagicCookieKey:   pluginpb.CookieKey,
			MagicCookieValue: pluginpb.CookieValue,
		},
		VersionedPlugins: map[int]goplugin.PluginSet{
			pluginpb.ProtocolVersion: {"plugin": &adapter{server: s}},
		},
		GRPCServer: s.grpcServer,
		Logger:     hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr, JSONFormat: true}),
	})
	if s.orphaned() {
		return ErrHostGone
	}
	return nil
}

// Logger returns a logger whose lines the host re-emits with their level and
// attributes. Call it before or after Serve has begun.
func Logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// adapter puts the service on go-plugin's server.
type adapter struct {
	goplugin.NetRPCUnsupportedPlugin
	server *server
}

// GRPCServer implements go-plugin's GRPCPlugin.
func (a *adapter) GRPCServer(_ *goplugin.GRPCBroker, g *grpc.Server) error {
	pluginpb.RegisterPluginServer(g, a.server)
	return nil
}

// GRPCClient implements go-plugin's GRPCPlugin; a plugin is never a client.
func (a *adapter) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a plugin has no client side")
}
