package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/waittest"
)

// testSocket is one more socket of a test agent. To whoever connects, or
// sends a datagram, it says its agent's version.
type testSocket struct {
	Name, Network, Addr string
}

// keptSocket is the name of those that are opened by ListenWith.
const keptSocket = "kept"

func (s testSocket) packet() bool { return s.Network == "udp" || s.Network == "unixgram" }

// openSockets are those of a process.
type openSockets struct {
	wait    sync.WaitGroup
	closers []func()
}

// opened is what a test agent writes down of its sockets.
type opened struct {
	Addresses []string
	// Environment is what of LISTEN_* is left after Open.
	Environment []string
}

func openTestSockets(u *Upgrader, env agentEnv, b build) (*openSockets, error) {
	all := &openSockets{}
	var o opened
	for _, s := range env.Sockets[b.Version] {
		addr, err := all.open(u, s, b.Version)
		if err != nil {
			return nil, err
		}
		o.Addresses = append(o.Addresses, addr)
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LISTEN_") {
			o.Environment = append(o.Environment, v)
		}
	}
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return all, atomicfile.Write(socketsFile(env, b.Version), data, 0o600)
}

func socketsFile(env agentEnv, version string) string {
	return filepath.Join(filepath.Dir(env.Address), "sockets-"+version)
}

func (all *openSockets) open(u *Upgrader, s testSocket, version string) (string, error) {
	if s.packet() {
		conn, err := u.ListenPacketNamed(s.Name, s.Network, s.Addr)
		if err != nil {
			return "", err
		}
		done := make(chan struct{})
		all.wait.Go(func() {
			defer close(done)
			answerPackets(conn, version)
		})
		all.closers = append(all.closers, func() {
			// What has been read is answered before the end.
			_ = conn.SetReadDeadline(time.Unix(1, 0))
			<-done
			_ = conn.Close()
		})
		return conn.LocalAddr().String(), nil
	}
	listen := u.ListenNamed
	if s.Name == keptSocket {
		listen = func(name, network, addr string) (net.Listener, error) {
			return u.ListenWith(net.ListenConfig{}, name, network, addr)
		}
	}
	ln, err := listen(s.Name, s.Network, s.Addr)
	if err != nil {
		return "", err
	}
	all.wait.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, version)
			_ = conn.Close()
		}
	})
	all.closers = append(all.closers, func() { _ = ln.Close() })
	return ln.Addr().String(), nil
}

func answerPackets(conn net.PacketConn, version string) {
	buf := make([]byte, 1024)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo([]byte(version+" "+string(buf[:n])), from)
	}
}

func (all *openSockets) close() {
	for _, c := range all.closers {
		c()
	}
	all.wait.Wait()
}

// opened returns what version wrote down of its sockets.
func (r *rig) opened(version string) opened {
	r.Helper()
	var o opened
	data, err := os.ReadFile(socketsFile(r.env, version))
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	if err != nil {
		r.Fatal(err)
	}
	return o
}

// says returns the version that answers on a socket.
func (r *rig) says(network, addr string) (string, error) {
	from := ""
	if network == "unixgram" {
		from = filepath.Join(r.TempDir(), "client")
	}
	return query(network, from, addr, "who")
}

// query connects to addr and, where that is for datagrams, sends question.
func query(network, from, addr, question string) (string, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if from != "" {
		d.LocalAddr = &net.UnixAddr{Name: from, Net: network}
	}
	conn, err := d.Dial(network, addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if network != "udp" && network != "unixgram" {
		answer, err := io.ReadAll(conn)
		return string(answer), err
	}
	if _, err := io.WriteString(conn, question); err != nil {
		return "", err
	}
	buf := make([]byte, 1024)
	n, err := conn.Read(buf)
	version, echo, _ := strings.Cut(string(buf[:n]), " ")
	if err == nil && echo != question {
		err = fmt.Errorf("asked %q, answered %q", question, buf[:n])
	}
	return version, err
}

// answered waits until version answers on every socket that it has opened,
// on the addresses that the version named first had.
func (r *rig) answered(version, first string) {
	r.Helper()
	addresses := r.opened(first).Addresses
	for i, s := range r.env.Sockets[first] {
		waittest.Nil(r, fmt.Sprintf("%s answers on %s %s", version, s.Network, s.Addr), func() error {
			v, err := r.says(s.Network, addresses[i])
			if err == nil && v != version {
				err = errors.New(v + " answers")
			}
			return err
		})
	}
}
