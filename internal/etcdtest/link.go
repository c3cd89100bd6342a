package etcdtest

import (
	"net"
	"sync"
	"time"
)

// Way is a direction in which bytes go through a Proxy.
type Way int

// The ways of a Proxy.
const (
	ToServer Way = iota
	ToClient
)

// link is what the connections of one proxy, or of one pair of members, go
// through. Its zero value is not usable: see newLink.
type link struct {
	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, with every change
	cut     bool
	closed  bool
	frozen  [2]bool
	delay   [2]time.Duration
	conns   map[net.Conn]bool
}

func newLink() *link {
	return &link{changed: make(chan struct{}), conns: map[net.Conn]bool{}}
}

// set makes a change and wakes who waits for one.
func (l *link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	if l.cut || l.closed {
		for c := range l.conns {
			_ = c.Close()
		}
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// heal ends everything but close.
func (l *link) heal() {
	l.set(func() { l.cut, l.frozen, l.delay = false, [2]bool{}, [2]time.Duration{} })
}

func (l *link) close() { l.set(func() { l.closed = true }) }

// track registers c so that a cut reaches it; false means that c must not be
// used.
func (l *link) track(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || l.closed {
		return false
	}
	l.conns[c] = true
	return true
}

func (l *link) untrack(c net.Conn) {
	_ = c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// join passes bytes between two connections until one ends, and closes both.
func (l *link) join(client, server net.Conn) {
	defer l.untrack(client)
	defer l.untrack(server)
	if !l.track(client) || !l.track(server) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.pump(ToServer, server, client) })
	wg.Go(func() { l.pump(ToClient, client, server) })
	wg.Wait()
}

// chunk is what was read at once.
type chunk struct {
	data []byte
	at   time.Time
}

// pump copies from src to dst and closes both at the end, so that the other
// direction ends too. It reads on while bytes are delayed: a slow way is not a
// narrow one.
func (l *link) pump(way Way, dst, src net.Conn) {
	defer func() { _, _ = dst.Close(), src.Close() }()
	chunks := make(chan chunk, 256)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(chunks)
		for {
			buf := make([]byte, 16<<10)
			n, err := src.Read(buf)
			if n > 0 {
				chunks <- chunk{buf[:n], time.Now()}
			}
			if err != nil {
				return
			}
		}
	})
	broken := false
	for c := range chunks { // to the end, so that the reader can end
		l.await(way, c.at)
		if broken {
			continue
		}
		if _, err := dst.Write(c.data); err != nil {
			broken = true
			_ = src.Close()
		}
	}
}

// await returns when a chunk that was read at a time may go on.
func (l *link) await(way Way, at time.Time) {
	for {
		l.mu.Lock()
		changed, frozen, over := l.changed, l.frozen[way], l.closed || l.cut
		rest := time.Until(at.Add(l.delay[way]))
		l.mu.Unlock()
		if over || !frozen && rest <= 0 {
			return
		}
		if frozen {
			<-changed
			continue
		}
		due := time.NewTimer(rest)
		select {
		case <-due.C:
		case <-changed:
		}
		due.Stop()
	}
}
