package upgrade

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// gatedPair is a socket behind a gate and one that sends to it.
func gatedPair(t *testing.T) (*gate, net.PacketConn, net.Conn) {
	t.Helper()
	g := newGate()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn := g.wrapPacket(udp)
	client, err := net.Dial("udp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = conn.Close() })
	return g, conn, client
}

type packet struct {
	text string
	err  error
}

func readAll(conn net.PacketConn) <-chan packet {
	read := make(chan packet)
	go func() {
		buf := make([]byte, 64)
		for {
			n, _, err := conn.ReadFrom(buf)
			read <- packet{string(buf[:n]), err}
			if err != nil {
				return
			}
		}
	}()
	return read
}

func TestPausedPacketSocketLeavesDatagramsInTheQueue(t *testing.T) {
	g, conn, client := gatedPair(t)
	other, err := conn.(*gatedPacketConn).PacketConn.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	// What another process that shares the socket sees.
	shared, err := net.FilePacketConn(other)
	if err := errors.Join(err, other.Close()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = shared.Close() }()
	read := readAll(conn)
	buf := make([]byte, 64)
	for i := range 50 {
		text := fmt.Sprint(i)
		send(t, client, text+" open")
		if p := waittest.Next(t, "a datagram", read); p.err != nil || p.text != text+" open" {
			t.Fatalf("read %+v", p)
		}
		if err := g.pause(); err != nil {
			t.Fatal(err)
		}
		send(t, client, text+" paused")
		n, _, err := shared.ReadFrom(buf)
		if err != nil || string(buf[:n]) != text+" paused" {
			t.Fatalf("the process that is not paused read %q, %v", buf[:n], err)
		}
		send(t, client, text+" waits")
		if err := g.resume(); err != nil {
			t.Fatal(err)
		}
		if p := waittest.Next(t, "the datagram that waited", read); p.err != nil || p.text != text+" waits" {
			t.Fatalf("read %+v", p)
		}
	}
	if err := g.pause(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if p := waittest.Next(t, "the end", read); !errors.Is(p.err, net.ErrClosed) {
		t.Errorf("a socket that was closed while paused ended with %v", p.err)
	}
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestReadDeadlineOfTheProgramOutlivesAPause(t *testing.T) {
	g, conn, client := gatedPair(t)
	read := readAll(conn)
	if err := g.pause(); err != nil {
		t.Fatal(err)
	}
	// Set while a read waits for the gate.
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if p := waittest.Next(t, "the deadline", read); !errors.Is(p.err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %+v, want the deadline", p)
	}
	if err := conn.SetDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	read = readAll(conn)
	if err := g.resume(); err != nil {
		t.Fatal(err)
	}
	send(t, client, "after")
	if p := waittest.Next(t, "a datagram", read); p.text != "after" {
		t.Fatalf("read %+v", p)
	}
	if err := g.pause(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := g.resume(); err != nil {
		t.Fatal(err)
	}
	if p := waittest.Next(t, "the deadline", read); !errors.Is(p.err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline that was set during a pause ended the read with %+v", p)
	}
}

func TestSocketFileIsRemovedOnlyWhereNobodyListens(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no file is left there")
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	stream, err := net.Listen("unix", path("stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	gram, err := net.ListenPacket("unixgram", path("gram"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = gram.Close() }()
	dead, err := net.ListenPacket("unixgram", path("dead"))
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	if err := os.WriteFile(path("file"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path("dead"), path("link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		network, name string
		removed       bool
	}{
		{"unix", "stream", false},
		{"unixgram", "stream", false},
		{"unixgram", "gram", false},
		{"unix", "gram", false},
		{"unix", "file", false},
		{"unix", "link", false},
		{"unix", "missing", false},
		{"tcp", "dead", false},
		{"unix", "dead", true},
	} {
		_, before := os.Lstat(path(c.name))
		if got := removeDead(c.network, path(c.name)); got != c.removed {
			t.Errorf("%s %s: removed is %v, want %v", c.network, c.name, got, c.removed)
		}
		if _, err := os.Lstat(path(c.name)); before == nil && (err != nil) != c.removed {
			t.Errorf("%s %s: afterwards %v", c.network, c.name, err)
		}
	}
}
