package admin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
)

// reach says who can get to an address.
type reach int

const (
	reachNetwork  reach = iota // perhaps everybody
	reachLoopback              // every process of this host, and what its browsers load
	reachSocket                // processes of this host that the file's mode lets in
)

// endpoint is where the listener is.
type endpoint struct {
	network, addr string
	reach         reach
}

const unixPrefix = "unix:"

// parseAddress reads "host:port" and "unix:/path". A name other than localhost
// counts as an address of the network: what it resolves to can change.
func parseAddress(address string) (endpoint, error) {
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		if path == "" || strings.HasPrefix(path, "@") || strings.ContainsRune(path, 0) {
			return endpoint{}, fmt.Errorf("admin address %q: want unix: and the path of a file", address)
		}
		absolute, err := filepath.Abs(path)
		if err != nil {
			return endpoint{}, fmt.Errorf("admin address %q: %w", address, err)
		}
		if len(absolute) > maxSocketPath {
			return endpoint{}, fmt.Errorf("admin address: the path %s has %d bytes, and systems take %d for a socket: choose a shorter one", absolute, len(absolute), maxSocketPath)
		}
		return endpoint{"unix", absolute, reachSocket}, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return endpoint{}, fmt.Errorf("admin address %q: want host:port, such as 127.0.0.1:7071, or unix:/path: %w", address, err)
	}
	e := endpoint{"tcp", address, reachNetwork}
	if loopbackName(host) {
		e.reach = reachLoopback
	}
	return e, nil
}

// maxSocketPath is what the least generous system takes, with its final zero.
const maxSocketPath = 103

// loopbackName tells whether a host name can only mean this host.
func loopbackName(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// within refuses a listener that more people reach than e allows: localhost
// can be made to mean anything, and a socket of the service manager is found
// by its name.
func (e endpoint) within(a net.Addr) error {
	switch on := a.(type) {
	case *net.UnixAddr:
		if e.reach == reachSocket {
			return nil
		}
	case *net.TCPAddr:
		if e.reach == reachNetwork || e.reach == reachLoopback && on.IP.IsLoopback() {
			return nil
		}
	}
	return fmt.Errorf("the socket for the admin address %s is on %s %s, which is not as closed: nothing was served on it", e.addr, a.Network(), a)
}

// goodHost tells whether a Host header names this listener and not what a web
// page has had resolved to it.
func goodHost(host string, more map[string]bool) bool {
	if host == "" {
		return true // HTTP/1.0, which no browser speaks
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	return loopbackName(name) || more[strings.ToLower(strings.TrimSuffix(name, "."))]
}

func newHosts(names []string) (map[string]bool, error) {
	hosts := map[string]bool{}
	for _, name := range names {
		if name == "" || strings.ContainsAny(name, "/: \t*") {
			return nil, fmt.Errorf("host name %q: want a name without port, such as agent1.example.com", name)
		}
		hosts[strings.ToLower(strings.TrimSuffix(name, "."))] = true
	}
	return hosts, nil
}

var errNoUnix = errors.New("a Unix socket has no mode on this system, so everybody could call: use an address on loopback")
