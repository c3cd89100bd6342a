package upgrade

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// Listen returns the listener that a predecessor handed over for network
// and addr, or a new one. TCP and Unix stream sockets can be handed over.
// Several with one address, such as with port 0, are handed over in the
// order in which they were asked for.
// Its Accept waits while a successor is on probation. Call it before
// Serving.
func (u *Upgrader) Listen(network, addr string) (net.Listener, error) {
	if u.lock == nil {
		return nil, errors.New("upgrade: Listen before Open")
	}
	if u.flip == nil {
		return net.Listen(network, addr)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	name := u.listenerName(network, addr)
	ln, err := u.flip.ListenWithCallback(network, name, func(network, _ string) (net.Listener, error) {
		return net.Listen(network, addr)
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s %s: %w", network, addr, err)
	}
	u.listening[network+" "+addr]++
	d, ok := ln.(deadliner)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on %s: want a stream socket that can be handed over: %w", network, ErrNotSupported), ln.Close())
	}
	return u.gate.wrap(d), nil
}

// listenerName is what a listener travels under to a successor. Several may
// be asked for with one address that ends in port 0: they are told apart by
// the order of the calls, which successor and incumbent share.
func (u *Upgrader) listenerName(network, addr string) string {
	if n := u.listening[network+" "+addr]; n > 0 && !strings.HasPrefix(network, "unix") {
		return fmt.Sprintf("%s#%d", addr, n+1)
	}
	return addr
}
