package etcdtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// peerHost is where members look for each other. No packet goes there: they
// are told to go through an HTTP proxy, which must not be asked for addresses
// of this host, and each has a proxy of its own, so that it is known who sends
// what to whom. It is in the certificates that certtest issues.
const peerHost = "192.0.2.7"

// peerURL is how the cluster knows its member i.
func peerURL(i int) string { return fmt.Sprintf("https://%s", peerAddr(i)) }

func peerAddr(i int) string { return fmt.Sprintf("%s:%d", peerHost, 2380+i) }

// peers is the network between the members of a cluster.
type peers struct {
	// links[i][j] has the connections that i made to j.
	links [][]*link

	mu    sync.Mutex
	addrs []string // where members listen for each other; "" = not yet
}

func newPeers(n int) *peers {
	p := &peers{addrs: make([]string, n)}
	for range n {
		var row []*link
		for range n {
			row = append(row, newLink())
		}
		p.links = append(p.links, row)
	}
	return p
}

// freeze stops the bytes that go from one member to another, whoever made the
// connection.
func (p *peers) freeze(from, to int) {
	made, taken := p.links[from][to], p.links[to][from]
	made.set(func() { made.frozen[ToServer] = true })
	taken.set(func() { taken.frozen[ToClient] = true })
}

func (p *peers) heal() {
	for _, row := range p.links {
		for _, l := range row {
			l.heal()
		}
	}
}

// member is one member's side of the network.
type member struct {
	peers *peers
	index int
	url   string
	proxy net.Listener
}

func (p *peers) member(tb testing.TB, i int) *member {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("proxy: %v", err)
	}
	m := &member{peers: p, index: i, url: peerURL(i), proxy: ln}
	var wg sync.WaitGroup
	wg.Go(func() { serve(ln, m.connect) })
	tb.Cleanup(func() {
		for _, l := range p.links[i] {
			l.close()
		}
		_ = ln.Close()
		wg.Wait()
	})
	return m
}

// env sends the member's connections through its proxy.
func (m *member) env() []string {
	return []string{"HTTPS_PROXY=http://" + m.proxy.Addr().String(), "https_proxy=", "NO_PROXY=", "no_proxy="}
}

// listens notes where the member listens for its peers.
func (m *member) listens(addr string) {
	m.peers.mu.Lock()
	defer m.peers.mu.Unlock()
	m.peers.addrs[m.index] = addr
}

// target finds a member by its address in the cluster.
func (p *peers) target(addr string) (index int, listens string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, a := range p.addrs {
		if peerAddr(i) == addr {
			return i, a
		}
	}
	return -1, ""
}

// connect answers one CONNECT and passes bytes from then on.
func (m *member) connect(client net.Conn) {
	// Until it is known to whom it goes, a connection is the member's own.
	own := m.peers.links[m.index][m.index]
	defer own.untrack(client)
	if !own.track(client) {
		return
	}
	in := bufio.NewReader(client)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	_ = req.Body.Close()
	to, addr := m.peers.target(req.Host)
	if req.Method != http.MethodConnect || addr == "" {
		_, _ = io.WriteString(client, "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n")
		return
	}
	server, err := dial(addr)
	if err != nil {
		return
	}
	if _, err := io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		_ = server.Close()
		return
	}
	m.peers.links[m.index][to].join(client, server)
}
