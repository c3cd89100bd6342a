package etcdtest

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Proxy is a TCP proxy in front of a Server, to cut the two sides apart.
type Proxy struct {
	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	healed sync.Cond // broadcast when frozen turns false or the proxy closes
	cut    bool
	frozen bool
	closed bool
	conns  map[net.Conn]bool
}

// Proxy starts a proxy of s that runs until the test ends. It survives
// restarts of the server.
func (s *Server) Proxy(tb testing.TB) *Proxy {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("proxy: %v", err)
	}
	p := &Proxy{target: s.addr, listener: ln, conns: map[net.Conn]bool{}}
	p.healed.L = &p.mu
	p.wg.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// URL is the proxy's address for clients.
func (p *Proxy) URL() string { return "http://" + p.listener.Addr().String() }

// Client returns a client that talks through the proxy and is closed when the
// test ends.
func (p *Proxy) Client(tb testing.TB) *clientv3.Client {
	tb.Helper()
	return newClient(tb, p.URL())
}

// Cut breaks every connection and refuses new ones until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// Freeze lets connections stand but passes no more bytes until Heal, as a
// firewall that drops packets does.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
}

// Heal ends Cut and Freeze. Bytes that waited in a frozen connection arrive.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.frozen = false, false
	p.healed.Broadcast()
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.healed.Broadcast()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	_ = p.listener.Close()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if !p.track(client) {
			_ = client.Close()
			continue
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

// track registers c so that Cut and close reach it; false means that c must
// not be used.
func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut || p.closed {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) untrack(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) serve(client net.Conn) {
	defer p.untrack(client)
	var dialer net.Dialer
	server, err := dialer.DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		return
	}
	defer p.untrack(server)
	if !p.track(server) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.pump(server, client) })
	wg.Go(func() { p.pump(client, server) })
	wg.Wait()
}

// pump copies from src to dst and closes both at the end, so that the other
// direction ends too.
func (p *Proxy) pump(dst io.WriteCloser, src io.ReadCloser) {
	defer func() { _, _ = dst.Close(), src.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		p.waitThaw()
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) waitThaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.frozen && !p.closed {
		p.healed.Wait()
	}
}
