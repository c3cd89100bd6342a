package upgrade

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// fileActivated is the name, with a number behind it, under which a socket of
// the service manager travels to a successor. As a file, and not as a
// listener: tableflip never unlinks those.
const fileActivated = "perennial-activated-"

// activatedSocket is a socket that the service manager has opened for this
// program (sd_listen_fds(3)). It stays the service manager's: a Unix socket's
// file is never removed.
type activatedSocket struct {
	name          string // of LISTEN_FDNAMES; may be empty
	network, addr string // empty for what nobody can listen on
	file          *os.File
	claimed       bool
}

// activatedSockets are all of them, in the order of their descriptors.
type activatedSockets []*activatedSocket

func (all activatedSockets) names() []string {
	var names []string
	for _, a := range all {
		names = append(names, a.name)
	}
	return names
}

// takeActivated takes the sockets that the environment names and removes the
// variables from it: what they say is not true of any other process.
func (u *Upgrader) takeActivated() error {
	files := activation.Files(true)
	if err := os.Unsetenv("LISTEN_PIDFDID"); err != nil {
		return err
	}
	for i, f := range files {
		name := f.Name()
		if name == "LISTEN_FD_"+strconv.Itoa(3+i) {
			name = "" // go-systemd's, where the service manager gave none
		}
		u.addActivated(name, f)
		if u.flip == nil {
			continue
		}
		if err := u.flip.AddFile(fileActivated+strconv.Itoa(i), f); err != nil {
			return fmt.Errorf("socket %d of the service manager: %w", i, err)
		}
	}
	return nil
}

// inheritActivated takes them from the predecessor.
func (u *Upgrader) inheritActivated() error {
	for i, name := range u.handover.offer.Activated {
		f, err := u.passed(fileActivated + strconv.Itoa(i))
		if err != nil {
			return err
		}
		u.addActivated(name, f)
	}
	return nil
}

func (u *Upgrader) addActivated(name string, f *os.File) {
	a := &activatedSocket{name: name, file: f}
	var err error
	if a.network, a.addr, err = localAddress(f); err != nil {
		u.log.Warn("a descriptor of the service manager is not used", "name", name, "error", err)
	}
	u.activated = append(u.activated, a)
}

// localAddress returns network and address that f listens on.
func localAddress(f *os.File) (network, addr string, err error) {
	ln, err := net.FileListener(f)
	if err == nil {
		network, addr = ln.Addr().Network(), ln.Addr().String()
		if err := ln.Close(); err != nil {
			return "", "", err
		}
		if network == "unixgram" || listening(f) {
			return network, addr, nil
		}
		return "", "", errors.New("it is a connection: use Accept=no in the socket unit")
	}
	conn, packetErr := net.FilePacketConn(f)
	if packetErr != nil {
		return "", "", errors.Join(err, packetErr)
	}
	return conn.LocalAddr().Network(), conn.LocalAddr().String(), conn.Close()
}

// claim returns the socket that is meant by name or by address, nil if there
// is none. Each can be claimed once.
func (all activatedSockets) claim(name, network, addr string) *activatedSocket {
	if len(all) == 0 {
		return nil
	}
	want := wanted(network, addr)
	var best *activatedSocket
	bestFit := 0
	for _, a := range all {
		if a.claimed || !sameKind(a.network, network) {
			continue
		}
		fit := want.fit(a)
		if name != "" && a.name == name {
			fit += named
		}
		if fit > bestFit {
			best, bestFit = a, fit
		}
	}
	if best != nil {
		best.claimed = true
	}
	return best
}

// How well a socket fits what is asked for; they add up.
const (
	wildcard = 1 // both are for any address, in different forms
	exact    = 2
	named    = 4
)

// sameKind compares networks without the version of IP: "tcp6" is "tcp".
func sameKind(a, b string) bool { return kind(a) == kind(b) }

func kind(network string) string { return strings.TrimRight(network, "46") }

// endpoint is an address that somebody wants to listen on.
type endpoint struct {
	network, addr string
	ip            net.IP // nil for any
	zone          string
	port          int // 0 is no port that could be found again
}

func wanted(network, addr string) endpoint {
	e := endpoint{network: network, addr: addr}
	// An address that does not resolve fails where it is listened on.
	switch kind(network) {
	case "tcp":
		if a, err := net.ResolveTCPAddr(network, addr); err == nil {
			e.ip, e.zone, e.port = a.IP, a.Zone, a.Port
		}
	case "udp":
		if a, err := net.ResolveUDPAddr(network, addr); err == nil {
			e.ip, e.zone, e.port = a.IP, a.Zone, a.Port
		}
	}
	if e.ip.IsUnspecified() {
		e.ip = nil
	}
	return e
}

func (e endpoint) fit(a *activatedSocket) int {
	if isUnix(e.network) {
		if e.addr == a.addr {
			return exact
		}
		return 0
	}
	has := wanted(a.network, a.addr)
	if e.port == 0 || has.port != e.port {
		return 0
	}
	switch {
	case e.ip == nil && has.ip == nil:
		if strings.HasSuffix(e.network, "6") && strings.HasPrefix(a.addr, "0.0.0.0:") {
			return 0
		}
		if e.addr == a.addr {
			return exact
		}
		return wildcard
	case e.ip != nil && e.ip.Equal(has.ip) && e.zone == has.zone:
		return exact
	}
	return 0
}

// reportUnclaimed tells of the sockets that this release does not use.
func (u *Upgrader) reportUnclaimed() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range u.activated {
		if !a.claimed && a.network != "" {
			u.log.Warn("nobody listens on a socket of the service manager; it is kept for a later release", "name", a.name, "address", a.network+":"+a.addr)
		}
	}
}

// closeActivated closes this process's copies; the listeners have their own.
func (u *Upgrader) closeActivated() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range u.activated {
		_ = a.file.Close()
	}
	u.activated = nil
}
