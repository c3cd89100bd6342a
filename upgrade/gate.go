package upgrade

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
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
	open atomic.Pointer[chan struct{}] // closed while accepting is allowed

	mu        sync.Mutex
	listeners map[*gatedListener]struct{}
}

func newGate() *gate {
	g := &gate{listeners: map[*gatedListener]struct{}{}}
	open := make(chan struct{})
	close(open)
	g.open.Store(&open)
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
	case <-*g.open.Load():
		return true
	default:
		return false
	}
}

// pause returns once no Accept takes another connection. Connections that
// were accepted before go on.
func (g *gate) pause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen() {
		open := make(chan struct{})
		g.open.Store(&open)
	}
	err := g.setDeadlines(time.Unix(1, 0))
	for l := range g.listeners {
		// One that had looked at its deadline just before may still take a
		// connection; its end is waited for.
		l.accepting.Lock()
		l.accepting.Unlock() //nolint:staticcheck // only waited for
	}
	return err
}

// resume lets Accept go on, on the very same sockets.
func (g *gate) resume() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.setDeadlines(time.Time{})
	if !g.isOpen() {
		close(*g.open.Load())
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

func (g *gate) forget(l *gatedListener) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.listeners, l)
}

// gatedListener is a listener whose Accept waits while its gate is paused.
type gatedListener struct {
	deadliner
	gate      *gate
	accepting sync.RWMutex // held for reading in the inner Accept
	once      sync.Once
	closed    chan struct{}
}

func (l *gatedListener) Accept() (net.Conn, error) {
	for {
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		case <-*l.gate.open.Load():
		}
		conn, err := l.acceptOnce()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// Only the gate sets deadlines, so this is a pause; or a resume
			// that overtook it, and then the next Accept blocks as it should.
			continue
		}
		return conn, err
	}
}

func (l *gatedListener) acceptOnce() (net.Conn, error) {
	l.accepting.RLock()
	defer l.accepting.RUnlock()
	if !l.gate.isOpen() {
		return nil, os.ErrDeadlineExceeded
	}
	return l.deadliner.Accept()
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
