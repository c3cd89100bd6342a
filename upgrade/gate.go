package upgrade

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// deadliner is what a listener must offer so that an Accept in progress can
// be interrupted; TCP and Unix listeners do.
type deadliner interface {
	net.Listener
	SetDeadline(time.Time) error
}

// gate pauses and resumes accepting on the listeners of this process without
// closing them: clients wait in the kernel's backlog, or reach the other
// process that shares the socket.
type gate struct {
	mu        sync.Mutex
	open      chan struct{} // closed while accepting is allowed
	listeners map[*gatedListener]struct{}
}

func newGate() *gate {
	g := &gate{open: make(chan struct{}), listeners: map[*gatedListener]struct{}{}}
	close(g.open)
	return g
}

func (g *gate) wrap(ln deadliner) net.Listener {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := &gatedListener{deadliner: ln, gate: g, closed: make(chan struct{})}
	g.listeners[l] = struct{}{}
	return l
}

func (g *gate) isOpen() bool {
	select {
	case <-g.open:
		return true
	default:
		return false
	}
}

// pause returns once no Accept can take another connection. Connections
// that were accepted before go on.
func (g *gate) pause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen() {
		g.open = make(chan struct{})
	}
	return g.setDeadlines(time.Unix(1, 0))
}

// resume lets Accept go on, on the very same sockets.
func (g *gate) resume() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.setDeadlines(time.Time{})
	if !g.isOpen() {
		close(g.open)
	}
	return err
}

func (g *gate) setDeadlines(t time.Time) error {
	var err error
	for l := range g.listeners {
		err = errors.Join(err, l.SetDeadline(t))
	}
	return err
}

func (g *gate) state() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *gate) forget(l *gatedListener) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.listeners, l)
}

// gatedListener is a listener whose Accept waits while its gate is paused.
type gatedListener struct {
	deadliner
	gate   *gate
	once   sync.Once
	closed chan struct{}
}

func (l *gatedListener) Accept() (net.Conn, error) {
	for {
		open := l.gate.state()
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		case <-open:
		}
		conn, err := l.deadliner.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// Only the gate sets deadlines, so this is a pause; or a resume
			// that overtook it, and then the next Accept blocks as it should.
			continue
		}
		return conn, err
	}
}

func (l *gatedListener) Close() error {
	var err error
	l.once.Do(func() {
		l.gate.forget(l)
		close(l.closed)
		err = l.deadliner.Close()
	})
	return err
}
