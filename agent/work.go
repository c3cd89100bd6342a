package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/upgrade"
)

// hostWork is what the host program runs through the agent.
type hostWork struct {
	mu       sync.Mutex
	ctx      context.Context // ends when draining begins; nil before Start
	tasks    sync.WaitGroup
	running  map[int]string // the names of the tasks
	next     int
	servers  []drainer
	grpc     *upgrade.GRPCServer // nil until it is needed
	draining bool
	fail     func(error)
	early    bool // Go was called before Start
}

// drainer is an *upgrade.HTTPServer or an *upgrade.GRPCServer.
type drainer interface {
	Drain(ctx context.Context, d upgrade.Drain) error
}

func (w *hostWork) begin(ctx context.Context, fail func(error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx, w.fail = ctx, fail
}

// misused returns why the agent must not run.
func (w *hostWork) misused() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.early {
		return errNotStarted
	}
	return nil
}

// errNotStarted is what Run returns if a server or Go was called before it.
var errNotStarted = errors.New("agent: ServeHTTP, ServeGRPC or Go was called before Run: call them from Config.Start or later")

// Listen returns the listener for network ("tcp", "unix", …) and addr that a
// predecessor handed over, or a new one. Call it in Start. A socket stays open
// until this process ends or is superseded; Close only ends its Accept. See
// upgrade.Upgrader.Listen.
func (a *Agent) Listen(network, addr string) (net.Listener, error) {
	return a.upgrader.Listen(network, addr)
}

// ListenNamed is Listen with a name: for a socket of the service manager
// (LISTEN_FDNAMES), and for a listener on port 0 that keeps its port whatever
// else a release listens on.
func (a *Agent) ListenNamed(name, network, addr string) (net.Listener, error) {
	return a.upgrader.ListenNamed(name, network, addr)
}

// ListenPacket is Listen for datagrams ("udp", "unixgram", …). Its ReadFrom
// waits while a successor is on probation, and for ever after a commit: close
// it when the ctx of Start or Go ends. See upgrade.Upgrader.ListenPacket.
func (a *Agent) ListenPacket(network, addr string) (net.PacketConn, error) {
	return a.upgrader.ListenPacket(network, addr)
}

// ListenPacketNamed is ListenPacket with a name, as in ListenNamed.
func (a *Agent) ListenPacketNamed(name, network, addr string) (net.PacketConn, error) {
	return a.upgrader.ListenPacketNamed(name, network, addr)
}

// ServeHTTP serves srv on ln in the background. When the agent ends or is
// superseded, the server is drained as Config.Drain says, without dropping a
// request. Its requests are measured: perennial_request_duration_seconds. srv
// belongs to the agent from then on. For HTTPS, ln is a tls.NewListener whose
// NextProtos offer "h2" if HTTP/2 is wanted. Handlers that hijack a connection
// or stream an answer learn of the drain from upgrade.Draining.
func (a *Agent) ServeHTTP(ln net.Listener, srv *http.Server) {
	s := upgrade.NewHTTPServer(srv)
	s.Observe(a.metrics.requests.http)
	a.host.mu.Lock()
	a.host.add(s)
	a.host.mu.Unlock()
	a.Go("http server on "+ln.Addr().String(), func(context.Context) error { return s.Serve(ln) })
}

// Go runs f in the background. Its ctx ends when draining begins; Run waits
// for it, up to the drain's timeout. An error ends the agent, unless it is
// draining anyhow. Called before Run, it makes Run fail.
func (a *Agent) Go(name string, f func(ctx context.Context) error) {
	w := &a.host
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, fail := w.ctx, w.fail
	if ctx == nil {
		w.early = true
		return
	}
	id := w.next
	w.next++
	if w.running == nil {
		w.running = map[int]string{}
	}
	w.running[id] = name
	w.tasks.Go(func() {
		defer w.ended(id)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

func (w *hostWork) ended(id int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, id)
}

// add has s drained with the others. One that comes when they are drained
// already is drained now, so that it does not begin to serve.
// w.mu is held.
func (w *hostWork) add(s drainer) {
	w.servers = append(w.servers, s)
	if w.draining {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Drain(over, upgrade.Drain{}) // it has no clients
	}
}

// drain lets the servers finish and waits for the tasks, both within
// d.Timeout and a moment.
func (w *hostWork) drain(ctx context.Context, d upgrade.Drain) error {
	d = d.WithDefaults()
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	w.mu.Lock()
	w.draining = true
	servers := slices.Clone(w.servers)
	w.mu.Unlock()
	errs := make([]error, len(servers))
	var drains errgroup.Group
	for i, s := range servers {
		drains.Go(func() error {
			errs[i] = s.Drain(ctx, d)
			return nil // every error counts, not the first
		})
	}
	_ = drains.Wait()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.tasks.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return errors.Join(errors.Join(errs...), w.late())
	}
	return errors.Join(errs...)
}

// late names the tasks that have not ended.
func (w *hostWork) late() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.running) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Values(w.running))
	return fmt.Errorf("%d background tasks did not end in time: %s: a task must end when its context does", len(names), strings.Join(names, ", "))
}
