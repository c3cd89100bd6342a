package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/upgrade"
)

// hostWork is what the host program runs through the agent.
type hostWork struct {
	mu      sync.Mutex
	ctx     context.Context // ends when draining begins; nil before Start
	tasks   sync.WaitGroup
	servers []*upgrade.HTTPServer
	fail    func(error)
	early   bool // Go was called before Start
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

// errNotStarted is what Run returns if ServeHTTP or Go was called before it.
var errNotStarted = errors.New("agent: ServeHTTP or Go was called before Run: call them from Config.Start or later")

// Listen returns the listener for network ("tcp", "unix", …) and addr that a
// predecessor handed over, or a new one. Call it in Start.
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
// request. srv belongs to the agent from then on.
func (a *Agent) ServeHTTP(ln net.Listener, srv *http.Server) {
	s := upgrade.NewHTTPServer(srv)
	a.host.mu.Lock()
	a.host.servers = append(a.host.servers, s)
	a.host.mu.Unlock()
	a.Go("http server on "+ln.Addr().String(), func(context.Context) error { return s.Serve(ln) })
}

// Go runs f in the background. Its ctx ends when draining begins; Run waits
// for it, up to the drain's timeout. An error ends the agent, unless it is
// draining anyhow. Called before Run, it makes Run fail.
func (a *Agent) Go(name string, f func(ctx context.Context) error) {
	w := &a.host
	w.mu.Lock()
	ctx, fail := w.ctx, w.fail
	w.early = ctx == nil
	w.mu.Unlock()
	if ctx == nil {
		return
	}
	w.tasks.Go(func() {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// drain lets the servers finish and waits for the tasks.
func (w *hostWork) drain(ctx context.Context, d upgrade.Drain) error {
	w.mu.Lock()
	servers := w.servers
	w.mu.Unlock()
	var drains errgroup.Group
	for _, s := range servers {
		drains.Go(func() error { return s.Drain(ctx, d) })
	}
	err := drains.Wait()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.tasks.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, errors.New("background tasks did not end in time"))
	}
	return err
}
