package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/cloudflare/tableflip"

	"github.com/perennial-go/perennial/internal/ident"
)

// Listen returns the listener that the service manager or a predecessor
// handed over for network and addr, or a new one. TCP and Unix stream sockets
// can be handed over. Several with one address that ends in port 0 are handed
// over in the order in which they were asked for; ListenNamed does not depend
// on it.
//
// Its Accept waits while a successor is on probation. A socket that a release
// does not ask for before Serving is closed when it commits, and the file of a
// Unix socket removed. The file of a Unix socket on which nobody listens any
// more, left by a kill, is replaced.
//
// A socket stays open until this process ends or is superseded; Close only
// ends its Accept. Until then clients still connect, and wait for nobody, and
// the address cannot be listened on again.
func (u *Upgrader) Listen(network, addr string) (net.Listener, error) {
	return u.ListenNamed("", network, addr)
}

// ListenNamed is Listen with a name of letters, digits and "._-@". Among the
// sockets of the service manager (LISTEN_FDNAMES) those of this name come
// first, whatever their address. And a listener on port 0 keeps its port
// whatever else a release listens on, and in which order.
func (u *Upgrader) ListenNamed(name, network, addr string) (net.Listener, error) {
	return u.listen(name, network, addr, func() (net.Listener, error) {
		return u.openStream(name, network, addr)
	})
}

// ListenWith is ListenNamed with options for a socket that is made here, such
// as the mode of a Unix socket's file; one that was handed over stays as it is.
// And clients can connect to it while this process drains: the file of a Unix
// socket is removed by Close, not when Run ends. One that a successor does not
// ask for is removed by this process's Close, unless a kill comes before. A
// file that somebody has deleted is made anew by the next release that asks.
func (u *Upgrader) ListenWith(options net.ListenConfig, name, network, addr string) (net.Listener, error) {
	fresh := func() (net.Listener, error) { return options.Listen(context.Background(), network, addr) }
	if u.flip == nil {
		if err := u.listenable(name); err != nil {
			return nil, err
		}
		return fresh()
	}
	return u.listen(name, network, addr, func() (net.Listener, error) {
		if hasFile(network, addr) {
			return u.openKept(fresh, name, network, addr)
		}
		return u.openStreamWith(fresh, name, network, addr)
	})
}

// listen has what open opens wait at the gate.
func (u *Upgrader) listen(name, network, addr string, open func() (net.Listener, error)) (net.Listener, error) {
	if err := u.listenable(name); err != nil {
		return nil, err
	}
	if u.flip == nil {
		return net.Listen(network, addr)
	}
	ln, err := open()
	if err != nil {
		return nil, u.trouble(err)
	}
	d, ok := ln.(deadliner)
	if !ok {
		return nil, errors.Join(unfit(network), ln.Close())
	}
	return u.gate.wrap(d), nil
}

func (u *Upgrader) listenable(name string) error {
	if u.lock == nil {
		return errors.New("upgrade: Listen before Open")
	}
	if name != "" && !ident.Valid(name, "._-@") {
		return fmt.Errorf("upgrade: name of a listener %q: want letters, digits and ._-@, a letter or digit first", name)
	}
	return nil
}

func (u *Upgrader) openStream(name, network, addr string) (net.Listener, error) {
	return u.openStreamWith(func() (net.Listener, error) { return net.Listen(network, addr) }, name, network, addr)
}

// openStreamWith finds the socket: from the service manager, from the
// predecessor, or a new one, which listen makes.
func (u *Upgrader) openStreamWith(listen func() (net.Listener, error), name, network, addr string) (ln net.Listener, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if a := u.activated.claim(name, network, addr); a != nil {
		return net.FileListener(a.file)
	}
	key := u.socketKey(name, network, addr)
	defer func() { u.sockets[network+" "+key] = err == nil }()
	ln, err = u.flip.Listener(network, key)
	if ln != nil || err != nil {
		return ln, err
	}
	ln, err = listen()
	if inUse(err) && removeDead(network, addr) {
		ln, err = listen()
	}
	if err != nil {
		return nil, err
	}
	shared, ok := ln.(tableflip.Listener)
	if !ok {
		return nil, errors.Join(unfit(network), ln.Close())
	}
	if err := u.flip.AddListener(network, key, shared); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, u.made(network, addr)
}

func unfit(network string) error {
	return fmt.Errorf("listen on %s: want a socket that can be handed over: %w", network, ErrNotSupported)
}

// socketKey is what a socket travels under to a successor. Several may be
// asked for with one address that ends in port 0: they are told apart by
// their names, else by the order of the calls, which successor and incumbent
// share. A Unix socket's is its path: tableflip removes the file by it.
func (u *Upgrader) socketKey(name, network, addr string) string {
	if isUnix(network) {
		return addr
	}
	if name != "" && strings.HasSuffix(addr, ":0") {
		addr += "@" + name
	}
	key := addr
	for n := 2; u.sockets[network+" "+key]; n++ {
		key = fmt.Sprintf("%s#%d", addr, n)
	}
	return key
}

// trouble returns err; a successor also tells it to its incumbent, for whom
// it explains a successor that ends soon after.
func (u *Upgrader) trouble(err error) error {
	if u.handover != nil {
		// A failed write shows as the end of the stream.
		_ = u.handover.send(frame{Kind: kindTrouble, Reason: err.Error()})
	}
	return err
}
