package upgrade

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

func TestPausedListenerKeepsClientsInTheBacklog(t *testing.T) {
	g := newGate()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := g.wrap(tcp.(deadliner))
	accepted := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				ended <- err
				return
			}
			_ = conn.Close()
			accepted <- struct{}{}
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatalf("a client was refused: %v", err)
		}
		return conn
	}
	// Many rounds, so that the pause meets an Accept in progress as well as
	// one that is about to begin.
	for range 50 {
		first := dial()
		<-accepted
		_ = first.Close()
		if err := g.pause(); err != nil {
			t.Fatal(err)
		}
		waiting := dial()
		if err := waiting.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a paused listener accepted: %v", err)
		}
		if err := g.resume(); err != nil {
			t.Fatal(err)
		}
		<-accepted
		_ = waiting.Close()
	}
	if err := g.pause(); err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a listener that was closed while paused ended with %v", err)
	}
}

// A deadline set by the program would undo a pause, and Accept, which takes an
// exceeded deadline for a pause, would spin.
func TestDeadlinesOfAListenerAreTheGatesAlone(t *testing.T) {
	for network, addr := range map[string]string{"tcp": "127.0.0.1:0", "unix": t.TempDir() + "/s"} {
		raw, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		ln := newGate().wrap(raw.(deadliner))
		if _, ok := ln.(interface{ SetDeadline(time.Time) error }); ok {
			t.Errorf("%s: the listener lets its program set deadlines", network)
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}
}
