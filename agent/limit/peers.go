package limit

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// peers has an allowance for each peer, in bounded memory.
type peers struct {
	rate  rate.Limit
	burst int
	max   int

	mu    sync.Mutex
	table map[string]*rate.Limiter
	// rest is shared by those for whom the table has no room.
	rest  *rate.Limiter
	swept time.Time
}

func newPeers(perSecond float64, burst, most int) *peers {
	return &peers{
		rate: rate.Limit(perSecond), burst: burst, max: most,
		table: map[string]*rate.Limiter{}, rest: rate.NewLimiter(rate.Limit(perSecond), burst),
	}
}

// allow takes n from the peer's allowance; more than a whole one is never
// asked for.
func (p *peers) allow(peer string, n int, now time.Time) bool {
	return p.of(peer, now).AllowN(now, min(n, p.burst))
}

func (p *peers) of(peer string, now time.Time) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.table[peer]; l != nil {
		return l
	}
	if len(p.table) >= p.max && now.Sub(p.swept) >= time.Second {
		// A look through the table for every newcomer would be what a flood
		// of newcomers wants.
		p.swept = now
		for name, l := range p.table {
			if l.TokensAt(now) >= float64(p.burst) {
				delete(p.table, name) // it is as if it had never been here
			}
		}
	}
	if len(p.table) >= p.max {
		return p.rest
	}
	l := rate.NewLimiter(p.rate, p.burst)
	p.table[peer] = l
	return l
}

// Address is the peer of an address: the host of IPv4, the network of 64 bits
// of IPv6.
func Address(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return a.Network()
	}
	ip, ok := netip.AddrFromSlice(tcp.IP)
	if !ok {
		return a.Network()
	}
	if ip = ip.Unmap(); ip.Is4() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return ip.String()
	}
	return network.String()
}

// PeerOf is the peer of a request to a protected server.
func PeerOf(r *http.Request) string {
	if c := connectionOf(r); c != nil {
		return c.peer
	}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return Address(net.TCPAddrFromAddrPort(at))
	}
	return r.RemoteAddr
}
