package upgrade

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// past is a deadline that interrupts at once.
//
//nolint:gochecknoglobals // a constant that Go cannot write as one
var past = time.Unix(1, 0)

// gate pauses and resumes what this process takes from its sockets without
// closing them: clients wait in the kernel's backlog, or reach the other
// process that shares the socket.
type gate struct {
	open atomic.Pointer[chan struct{}] // closed while taking is allowed

	mu      sync.Mutex
	sockets map[gated]struct{}
}

// gated is a socket behind a gate. Its methods are called with gate.mu held.
type gated interface {
	// interrupt has what waits on the socket, and whatever is tried from now
	// on, end with os.ErrDeadlineExceeded.
	interrupt() error
	// restore undoes interrupt.
	restore() error
	// settle returns once nothing is being taken any more.
	settle()
	// ready is when something was first waited for; zero = never.
	ready() time.Time
}

func newGate() *gate {
	g := &gate{sockets: map[gated]struct{}{}}
	open := make(chan struct{})
	close(open)
	g.open.Store(&open)
	return g
}

func (g *gate) opened() <-chan struct{} { return *g.open.Load() }

func (g *gate) isOpen() bool {
	select {
	case <-g.opened():
		return true
	default:
		return false
	}
}

// pause returns once nothing takes another connection or datagram.
// Connections that were accepted before go on.
func (g *gate) pause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen() {
		open := make(chan struct{})
		g.open.Store(&open)
	}
	var err error
	for s := range g.sockets {
		err = errors.Join(err, s.interrupt())
	}
	for s := range g.sockets {
		// One that had looked at its deadline just before may still take
		// something; its end is waited for.
		s.settle()
	}
	return err
}

// resume lets the sockets go on, the very same ones.
func (g *gate) resume() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var err error
	for s := range g.sockets {
		err = errors.Join(err, s.restore())
	}
	if !g.isOpen() {
		close(*g.open.Load())
	}
	return err
}

// readyAt is when what comes in was first taken on each socket of which the
// program takes anything; zero where that is none.
func (g *gate) readyAt() (last time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sockets {
		if at := s.ready(); at.After(last) {
			last = at
		}
	}
	return last
}

func (g *gate) admit(s gated) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sockets[s] = struct{}{}
}

func (g *gate) forget(s gated) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sockets, s)
}

// passage is what the sockets behind a gate have in common.
type passage struct {
	gate   *gate
	taking sync.RWMutex // held for reading while something is taken
	first  atomic.Int64 // when it first was, in nanoseconds since 1970; 0 = never
	once   sync.Once
	closed chan struct{}
}

func (p *passage) settle() {
	p.taking.Lock()
	p.taking.Unlock() //nolint:staticcheck // only waited for
}

// begin is called with taking held, and reports whether something may be taken.
func (p *passage) begin() bool {
	if !p.gate.isOpen() {
		return false
	}
	if p.first.Load() == 0 {
		p.first.CompareAndSwap(0, time.Now().UnixNano())
	}
	return true
}

func (p *passage) ready() time.Time {
	if at := p.first.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// deadliner is what a listener must offer so that an Accept in progress can
// be interrupted; TCP and Unix listeners do.
type deadliner interface {
	net.Listener
	SetDeadline(time.Time) error
}

// gatedListener is a listener whose Accept waits while its gate is paused. It
// has no SetDeadline: deadlines are the gate's, and those of a caller would
// undo a pause and end no Accept.
type gatedListener struct {
	net.Listener
	raw deadliner // the Listener
	passage
}

func (g *gate) wrap(ln deadliner) net.Listener {
	l := &gatedListener{Listener: ln, raw: ln, passage: passage{gate: g, closed: make(chan struct{})}}
	g.admit(l)
	return l
}

func (l *gatedListener) interrupt() error { return l.raw.SetDeadline(past) }
func (l *gatedListener) restore() error   { return l.raw.SetDeadline(time.Time{}) }

func (l *gatedListener) Accept() (net.Conn, error) {
	for {
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		case <-l.gate.opened():
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
	l.taking.RLock()
	defer l.taking.RUnlock()
	if !l.begin() {
		return nil, os.ErrDeadlineExceeded
	}
	return l.raw.Accept()
}

func (l *gatedListener) Close() error {
	var err error
	l.once.Do(func() {
		l.gate.forget(l)
		close(l.closed)
		err = l.raw.Close()
	})
	return err
}
