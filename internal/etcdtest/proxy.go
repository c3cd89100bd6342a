package etcdtest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Proxy is a TCP proxy in front of a Server, to cut the two sides apart. Its
// methods may be called concurrently.
type Proxy struct {
	server   *Server
	target   string
	listener net.Listener
	link     *link
	wg       sync.WaitGroup
}

// Proxy starts a proxy of s that runs until the test ends. It survives
// restarts of the server.
func (s *Server) Proxy(tb testing.TB) *Proxy {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("proxy: %v", err)
	}
	p := &Proxy{server: s, target: s.addr, listener: ln, link: newLink()}
	p.wg.Go(func() {
		serve(ln, func(client net.Conn) { p.connect(client) })
	})
	tb.Cleanup(func() {
		p.link.close()
		_ = ln.Close()
		p.wg.Wait()
	})
	return p
}

// serve handles each connection of ln in a goroutine of its own, until ln is
// closed and all have ended.
func serve(ln net.Listener, handle func(net.Conn)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		wg.Go(func() { handle(conn) })
	}
}

func (p *Proxy) connect(client net.Conn) {
	if !p.link.track(client) {
		_ = client.Close()
		return
	}
	server, err := dial(p.target)
	if err != nil {
		p.link.untrack(client)
		return
	}
	p.link.join(client, server)
}

func dial(addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(context.Background(), "tcp", addr)
}

// URL is the proxy's address for clients.
func (p *Proxy) URL() string { return p.server.scheme() + p.listener.Addr().String() }

// Client returns a client that talks through the proxy and is closed when the
// test ends.
func (p *Proxy) Client(tb testing.TB) *clientv3.Client {
	tb.Helper()
	cfg := p.server.ClientConfig()
	cfg.Endpoints = []string{p.URL()}
	return newClient(tb, cfg)
}

// Cut breaks every connection and refuses new ones until Heal.
func (p *Proxy) Cut() { p.link.set(func() { p.link.cut = true }) }

// Freeze lets connections stand but passes no more bytes until Heal, as a
// firewall that drops packets does.
func (p *Proxy) Freeze() { p.link.set(func() { p.link.frozen = [2]bool{true, true} }) }

// FreezeWay is Freeze for the bytes that go one way only.
func (p *Proxy) FreezeWay(w Way) { p.link.set(func() { p.link.frozen[w] = true }) }

// Delay lets bytes that go one way arrive later by d; as many as before arrive
// in a second.
func (p *Proxy) Delay(w Way, d time.Duration) { p.link.set(func() { p.link.delay[w] = d }) }

// Heal ends Cut, Freeze and Delay. Bytes that waited arrive at once.
func (p *Proxy) Heal() { p.link.heal() }
