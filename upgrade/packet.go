package upgrade

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/cloudflare/tableflip"
)

// ListenPacket is Listen for datagrams: network is "udp", "unixgram" and the
// like. Successor and incumbent share the socket and its queue, so from the
// moment a successor serves ReadFrom of the incumbent waits, until a roll
// back; it drops no datagram. Answers can be written all the time. While
// both processes read, between the successor's first ReadFrom and its
// Serving, a datagram reaches either: neither may take it that the earlier
// ones of a peer came to itself.
//
// The result is no *net.UDPConn, since whoever reads past ReadFrom would not
// wait. Deadlines are the program's own: one that passes while ReadFrom waits
// ends it as ever. After a commit ReadFrom waits until Close: close the
// socket when draining begins.
func (u *Upgrader) ListenPacket(network, addr string) (net.PacketConn, error) {
	return u.ListenPacketNamed("", network, addr)
}

// ListenPacketNamed is ListenPacket with a name, as in ListenNamed.
func (u *Upgrader) ListenPacketNamed(name, network, addr string) (net.PacketConn, error) {
	if err := u.listenable(name); err != nil {
		return nil, err
	}
	if u.flip == nil {
		return listenPacket(network, addr)
	}
	conn, err := u.openPacket(name, network, addr)
	if err != nil {
		return nil, u.trouble(err)
	}
	return u.gate.wrapPacket(conn), nil
}

// openPacket finds the socket: from the service manager, from the
// predecessor, or a new one.
func (u *Upgrader) openPacket(name, network, addr string) (conn net.PacketConn, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if a := u.activated.claim(name, network, addr); a != nil {
		return net.FilePacketConn(a.file)
	}
	key := u.socketKey(name, network, addr)
	defer func() { u.sockets[network+" "+key] = err == nil }()
	conn, err = u.flip.PacketConn(network, key)
	if conn != nil || err != nil {
		return conn, err
	}
	conn, err = listenPacket(network, addr)
	if inUse(err) && removeDead(network, addr) {
		conn, err = listenPacket(network, addr)
	}
	if err != nil {
		return nil, err
	}
	shared, ok := conn.(tableflip.PacketConn)
	if !ok {
		return nil, errors.Join(unfit(network), conn.Close())
	}
	if err := u.flip.AddPacketConn(network, key, shared); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, u.made(network, addr)
}

func listenPacket(network, addr string) (net.PacketConn, error) {
	var c net.ListenConfig
	return c.ListenPacket(context.Background(), network, addr)
}

// gatedPacketConn is a datagram socket whose ReadFrom waits while its gate is
// paused.
type gatedPacketConn struct {
	net.PacketConn
	passage

	mu       sync.Mutex
	deadline time.Time     // for reads, as the program has set it
	changed  chan struct{} // closed when deadline changes
}

func (g *gate) wrapPacket(conn net.PacketConn) net.PacketConn {
	c := &gatedPacketConn{
		PacketConn: conn, changed: make(chan struct{}),
		passage: passage{gate: g, closed: make(chan struct{})},
	}
	g.admit(c)
	return c
}

func (c *gatedPacketConn) interrupt() error { return c.PacketConn.SetReadDeadline(past) }

func (c *gatedPacketConn) restore() error {
	deadline, _ := c.readDeadline()
	return c.PacketConn.SetReadDeadline(deadline)
}

func (c *gatedPacketConn) readDeadline() (time.Time, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadline, c.changed
}

func (c *gatedPacketConn) expired() bool {
	deadline, _ := c.readDeadline()
	return !deadline.IsZero() && !time.Now().Before(deadline)
}

// SetReadDeadline takes effect at once, also while the gate is paused.
func (c *gatedPacketConn) SetReadDeadline(t time.Time) error {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.mu.Lock()
	c.deadline = t
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	if !c.gate.isOpen() {
		// The socket's own deadline is the gate's until it resumes.
		return nil
	}
	return c.PacketConn.SetReadDeadline(t)
}

func (c *gatedPacketConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *gatedPacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		if err := c.wait(); err != nil {
			return 0, nil, err
		}
		n, from, err := c.readOnce(p)
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.expired() {
			return n, from, err
		}
	}
}

// wait returns nil once the gate is open.
func (c *gatedPacketConn) wait() error {
	for {
		select {
		case <-c.closed:
			return net.ErrClosed
		case <-c.gate.opened():
			return nil
		default:
		}
		if c.expired() {
			return os.ErrDeadlineExceeded
		}
		c.waitOnce()
	}
}

// waitOnce returns when wait has something to look at.
func (c *gatedPacketConn) waitOnce() {
	deadline, changed := c.readDeadline()
	var due <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-c.closed:
	case <-c.gate.opened():
	case <-changed:
	case <-due:
	}
}

func (c *gatedPacketConn) readOnce(p []byte) (int, net.Addr, error) {
	c.taking.RLock()
	defer c.taking.RUnlock()
	if !c.begin() {
		return 0, nil, os.ErrDeadlineExceeded
	}
	return c.PacketConn.ReadFrom(p)
}

func (c *gatedPacketConn) Close() error {
	var err error
	c.once.Do(func() {
		c.gate.forget(c)
		close(c.closed)
		err = c.PacketConn.Close()
	})
	return err
}
