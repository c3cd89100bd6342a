package upgrade

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// TestReadyIsWhenTheLastSocketInUseIsTakenFrom: a pause that ended with the first
// one would not see that clients of another wait.
func TestReadyIsWhenTheLastSocketInUseIsTakenFrom(t *testing.T) {
	g := newGate()
	var listeners []net.Listener
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, g.wrap(ln.(deadliner)))
	}
	if at := g.readyAt(); !at.IsZero() {
		t.Fatalf("ready at %v before any Accept", at)
	}
	ended := make(chan error, 2)
	var moments []time.Time
	for i, ln := range listeners[:2] { // the program leaves the third alone
		before := time.Now()
		go func() {
			_, err := ln.Accept()
			ended <- err
		}()
		waittest.Until(t, "the listener is waited on", func() bool { return !ln.(*gatedListener).ready().IsZero() })
		at := g.readyAt()
		for range 64 { // a map's order is another one each time
			if again := g.readyAt(); !again.Equal(at) {
				t.Fatalf("socket %d: ready at %v, and at %v", i, at, again)
			}
		}
		if at.Before(before.Round(0)) || (i > 0 && !at.After(moments[i-1])) {
			t.Errorf("socket %d: ready at %v, which began to be waited on after %v", i, at, before)
		}
		moments = append(moments, at)
	}
	for _, ln := range listeners {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := <-ended; err == nil {
			t.Error("a client was accepted, and none has come")
		}
	}
}

// TestCommitThatTellsOfThePauseIsReadAsEver, and one that does not is no pause.
func TestCommitThatTellsOfThePauseIsReadAsEver(t *testing.T) {
	want := frame{Protocol: 1, Kind: kindCommit, Paused: time.Date(2026, 11, 26, 9, 0, 0, 123456789, time.UTC)}
	var wire bytes.Buffer
	for _, f := range []frame{want, {Kind: kindCommit}} {
		if err := writeFrame(&wire, f); err != nil {
			t.Fatal(err)
		}
	}
	raw := golden(t, "handover-1-paused.bin")
	if !bytes.Equal(wire.Bytes(), raw) {
		t.Errorf("written as\n%q\nwant\n%q", wire.Bytes(), raw)
	}
	r := bytes.NewReader(raw)
	got, err := readFrame(r)
	if err != nil || got.Kind != want.Kind || !got.Paused.Equal(want.Paused) {
		t.Errorf("read as %+v, %v", got, err)
	}
	if got, err = readFrame(r); err != nil || !got.Paused.IsZero() {
		t.Errorf("read as %+v, %v", got, err)
	}
}
