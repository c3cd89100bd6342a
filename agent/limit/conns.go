package limit

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// conns are the open connections of a server.
type conns struct {
	mu      sync.Mutex
	open    map[net.Conn]*connection
	perPeer map[string]int
}

// connection is one of them.
type connection struct {
	peer    string
	refused bool
	// begun counts the requests of which something has arrived, handled those
	// that reached a handler.
	begun, handled atomic.Int64
}

type connectionKey struct{}

func connectionOf(r *http.Request) *connection {
	c, _ := r.Context().Value(connectionKey{}).(*connection)
	return c
}

// begin counts a new connection, and closes it if there are too many, or too
// many of late.
func (g *Guard) begin(c net.Conn) *connection {
	made := &connection{peer: g.cfg.Peer(c)}
	_, secure := c.(*tls.Conn)
	tooOften := secure && !g.comers.allow(made.peer, 1, time.Now())
	g.conns.mu.Lock()
	g.conns.open[c] = made
	g.conns.perPeer[made.peer]++
	made.refused = tooOften || len(g.conns.open) > g.limits.Conns || g.conns.perPeer[made.peer] > g.limits.ConnsPerPeer
	g.conns.mu.Unlock()
	if made.refused {
		_ = c.Close() // net/http sees it, and tells follow
		g.cfg.OnRefuse(Refusal{Reason: Connections, Peer: made.peer})
	}
	return made
}

// follow sees the states of connections.
func (g *Guard) follow(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateActive:
		if known := g.conns.of(c); known != nil {
			known.begun.Add(1)
		}
	case http.StateClosed, http.StateHijacked:
		gone := g.conns.end(c)
		if gone != nil && !gone.refused && gone.begun.Load() > gone.handled.Load() {
			g.cfg.OnRefuse(Refusal{Reason: Malformed, Peer: gone.peer})
		}
	default: // a new one was counted by begin, an idle one stays
	}
}

func (t *conns) of(c net.Conn) *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[c]
}

func (t *conns) end(c net.Conn) *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	gone := t.open[c]
	if gone == nil {
		return nil
	}
	delete(t.open, c)
	if t.perPeer[gone.peer]--; t.perPeer[gone.peer] <= 0 {
		delete(t.perPeer, gone.peer)
	}
	return gone
}
