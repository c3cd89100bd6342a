package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// testState hands over a number of bytes, the first of which count the
// releases that have had them, or misbehaves as mode says.
type testState struct {
	mode  string
	count int
}

// newTestState returns nil for a program that knows nothing of state.
func newTestState(mode string) (Stateful, time.Duration) {
	switch {
	case mode == "":
		return nil, 0
	case strings.HasSuffix(mode, "-hangs"):
		return &testState{mode: mode}, 300 * time.Millisecond
	default:
		return &testState{mode: mode}, 0
	}
}

func (s *testState) SaveState(context.Context) ([]byte, error) {
	switch s.mode {
	case "save-fails":
		return nil, errors.New("the sessions are being compacted")
	case "save-panics":
		panic("nil sessions")
	case "save-hangs":
		select {}
	}
	if size, err := strconv.Atoi(s.mode); err == nil && size > 0 {
		return testStateOf(s.count+1, size), nil
	}
	return nil, nil // nothing to hand over
}

func testStateOf(count, size int) []byte {
	var pattern [2048]byte
	for i := range pattern {
		pattern[i] = byte(i * 7 >> 3)
	}
	state := fmt.Appendf(make([]byte, 0, size), "count %d;", count)
	for len(state) < size {
		state = append(state, pattern[:min(len(pattern), size-len(state))]...)
	}
	return state
}

func (s *testState) RestoreState(_ context.Context, state []byte) error {
	switch s.mode {
	case "restore-fails":
		return errors.New("these sessions are of another kind")
	case "restore-panics":
		panic("nil sessions")
	case "restore-hangs":
		select {}
	case "restore-dies":
		os.Exit(4)
	}
	if _, err := fmt.Sscanf(string(state[:min(len(state), 20)]), "count %d;", &s.count); err != nil {
		return err
	}
	if !bytes.Equal(state, testStateOf(s.count, len(state))) {
		return errors.New("the state has changed on its way")
	}
	fmt.Fprintf(os.Stderr, "restored count %d of %d bytes\n", s.count, len(state))
	return nil
}

func TestStateOfTheProgramReachesEverySuccessorWhole(t *testing.T) {
	t.Parallel()
	r := newRigOf(t, build{Version: "1.0.0", State: "100"}, 200*time.Millisecond, nil)
	l := startLoad(r, 4, pace)
	sizes := []int{100, stateChunk, 3*stateChunk + 1}
	for i, size := range sizes {
		next := 1
		if i+1 < len(sizes) {
			next = sizes[i+1]
		}
		version := fmt.Sprintf("1.%d.0", i+1)
		r.ask(r.publish(build{Version: version, State: strconv.Itoa(next)}))
		if s := r.ends(version); s.State != Committed {
			t.Fatalf("%s: %s (%s)", version, s.State, s.Reason)
		}
		if want := fmt.Sprintf("restored count %d of %d bytes\n", i+1, size); !strings.Contains(r.logged(), want) {
			t.Fatalf("%s did not say %q", version, want)
		}
	}
	l.end(t, false)
}

// One side of the swap has nothing to do with state: the release before the
// program had any, the one after it gave it up, and one with nothing to say.
func TestReleasesWithAndWithoutStateFollowOneAnother(t *testing.T) {
	t.Parallel()
	r := newRigOf(t, build{Version: "1.0.0"}, 200*time.Millisecond, nil)
	for i, state := range []string{"100", "", "2000000", "0", "100"} {
		version := fmt.Sprintf("1.%d.0", i+1)
		r.ask(r.publish(build{Version: version, State: state}))
		if s := r.ends(version); s.State != Committed {
			t.Fatalf("%s: %s (%s)", version, s.State, s.Reason)
		}
	}
	if got := strings.Count(r.logged(), "restored"); got != 1 {
		t.Errorf("state was restored %d times, want once: of 2000000 bytes in 1.4.0", got)
	}
}

func TestStateThatIsNotHandedOverLeavesTheIncumbentServing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		incumbent, successor string
		class                Class
		reason               string
	}{
		{"save-fails", "100", BadEnvironment, "not saved: SaveState: the sessions are being compacted"},
		{"save-panics", "100", BadEnvironment, "SaveState: it panicked: nil sessions"},
		{"save-hangs", "100", BadEnvironment, "SaveState did not return within 300ms"},
		{strconv.Itoa(stateLimit + 1), "100", BadEnvironment, "at most 67108864 are handed over"},
		{"100", "restore-fails", BadBinary, "the incumbent's state of 100 bytes was not restored: RestoreState: these sessions are of another kind"},
		{"100", "restore-panics", BadBinary, "RestoreState: it panicked: nil sessions"},
		{"100", "restore-hangs", BadBinary, "RestoreState did not return within 300ms"},
		{"2000000", "restore-dies", BadBinary, "exit status 4"},
	} {
		t.Run(c.incumbent+" to "+c.successor, func(t *testing.T) {
			t.Parallel()
			r := newRigOf(t, build{Version: "1.0.0", State: c.incumbent}, 200*time.Millisecond, nil)
			l := startLoad(r, 2, pace)
			pin := r.publish(build{Version: "1.1.0", State: c.successor})
			r.ask(pin)
			s := r.ends("1.1.0")
			if s.State != RolledBack || s.Class != c.class || !strings.Contains(s.Reason, c.reason) {
				t.Errorf("%s (%s, class %s), want rolled back and %q", s.State, s.Reason, s.Class, c.reason)
			}
			if held := s.LastFailed != nil; held != (c.class == BadBinary) {
				t.Errorf("last failed is %+v: a release that was never started is not to blame", s.LastFailed)
			}
			if started := strings.Contains(r.logged(), "test agent 1.1.0"); started != (c.class == BadBinary) {
				t.Errorf("a successor was started: %v", started)
			}
			if w := r.serves("1.0.0"); w.PID != r.cmd.Process.Pid {
				t.Error("1.0.0 serves in another process")
			}
			l.end(t, false)
			if c.incumbent == "save-hangs" {
				r.askAs(pin, "again")
				if s := r.ends("again"); !strings.Contains(s.Reason, "an earlier call has not returned yet") {
					t.Errorf("the second call beside the first: %s", s.Reason)
				}
				return
			}
			if c.class == BadBinary {
				r.ask(r.publish(build{Version: "1.1.1", State: "100"}))
				if s := r.ends("1.1.1"); s.State != Committed {
					t.Errorf("the next upgrade: %s: %s", s.State, s.Reason)
				}
			}
		})
	}
}

func TestProgramThatForgetsItsStateIsToldSo(t *testing.T) {
	u, err := New(Config{StateDir: t.TempDir(), Name: "demo", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	u.handover = &handover{state: []byte("sessions")}
	if err := u.Serving(); err == nil || !strings.Contains(err.Error(), "call Restore before Serving") {
		t.Errorf("Serving without Restore: %v", err)
	}
}

// connPair is the two ends of a handover socket.
func connPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	a, b, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	near, err1 := fileConn(a)
	far, err2 := fileConn(b)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// greeting plays an incumbent that says what say writes and closes.
func greeting(t *testing.T, stateful bool, say func(send func(frame))) (*handover, []frame, error) {
	t.Helper()
	near, far := connPair(t)
	h := &handover{conn: near, quit: make(chan struct{})}
	h.in = readFrames(near, h.quit)
	heard := make(chan []frame, 1)
	go func() {
		say(func(f frame) { _ = sendFrame(far, f) })
		_ = far.(interface{ CloseWrite() error }).CloseWrite()
		var frames []frame
		for {
			f, err := readFrame(far)
			if err != nil {
				heard <- frames
				return
			}
			frames = append(frames, f)
		}
	}()
	err := h.greet(t.Context(), "1.1.0", stateful)
	if err := h.close(); err != nil {
		t.Error(err)
	}
	return h, <-heard, err
}

func TestLargestStateFitsThroughTheSocket(t *testing.T) {
	t.Parallel()
	state := testStateOf(7, stateLimit)
	began := time.Now()
	h, _, err := greeting(t, true, func(send func(frame)) {
		send(frame{Kind: kindOffer, Attempt: &Attempt{}, State: &hostState{Size: stateLimit}})
		for chunk := range slices.Chunk(state, stateChunk) {
			send(frame{Kind: kindState, Host: chunk})
		}
	})
	if err != nil || !bytes.Equal(h.state, state) {
		t.Errorf("%d bytes arrived, %v", len(h.state), err)
	}
	t.Logf("%d bytes in %v", len(state), time.Since(began))
}

func TestStateIsBoundedAndItsEndIsNoticed(t *testing.T) {
	offer := func(size int64) frame {
		return frame{Kind: kindOffer, Version: "1.0.0", Attempt: &Attempt{}, State: &hostState{Size: size}}
	}
	chunk := func(n int) frame { return frame{Kind: kindState, Host: make([]byte, n)} }
	for name, c := range map[string]struct {
		frames []frame
		want   string
	}{
		"cut off":        {[]frame{offer(10), chunk(4)}, "broke off after 4 of 10 bytes"},
		"none at all":    {[]frame{offer(10)}, "broke off after 0 of 10 bytes"},
		"more":           {[]frame{offer(10), chunk(4), chunk(7)}, "announced 10 bytes of the host's state and sends 7 after 4"},
		"empty chunk":    {[]frame{offer(10), chunk(0)}, "sends 0 after 0"},
		"negative":       {[]frame{offer(-1)}, "announces -1 bytes"},
		"too large":      {[]frame{offer(stateLimit + 1)}, "announces 67108865 bytes"},
		"aborted":        {[]frame{offer(10), chunk(4), {Kind: kindAbort, Reason: "no longer wanted"}}, "no longer wanted"},
		"unknown kinds":  {[]frame{offer(10), chunk(4), {Kind: "future"}, chunk(6)}, ""},
		"no offer":       {[]frame{chunk(4)}, `want an offer as the first frame, found "state": the peer does not speak`},
		"nothing at all": {nil, "no offer"},
	} {
		t.Run(name, func(t *testing.T) {
			h, _, err := greeting(t, true, func(send func(frame)) {
				for _, f := range c.frames {
					send(f)
				}
			})
			switch {
			case c.want == "" && (err != nil || len(h.state) != 10):
				t.Errorf("%d bytes, %v", len(h.state), err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || h.state != nil):
				t.Errorf("%v with %d bytes of state, want %q", err, len(h.state), c.want)
			}
		})
	}
}

// The first release of protocol 1 knows neither the offer's announcement nor
// the frames that follow, and reads nothing between its hello and probation:
// sending it a state would block.
func TestOlderSuccessorIsSentNoState(t *testing.T) {
	near, far := connPair(t)
	u, err := New(Config{StateDir: t.TempDir(), Name: "demo", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		hello frame
		state int
		wants int
	}{
		{frame{Kind: kindHello, Version: "1.1.0"}, 3 * stateChunk, 0},
		{frame{Kind: kindHello, Version: "1.1.0", TakesState: true}, 0, 0},
		{frame{Kind: kindHello, Version: "1.1.0", TakesState: true}, 3*stateChunk - 1, 3},
	} {
		trial := &trial{Upgrader: u, slot: Slot{Ref: Ref{Version: "1.1.0"}}, conn: near, stdio: &stdio{}, state: make([]byte, c.state), sent: make(chan error, 1)}
		heard := make(chan int, 1)
		go func() {
			chunks := 0
			for {
				f, err := readFrame(far)
				if err != nil || f.Kind != kindState {
					heard <- chunks
					return
				}
				chunks++
			}
		}()
		trial.family = &family{pid: 1}
		// Twice, as a successor out of its mind might.
		for range 2 {
			if f := trial.take(c.hello); f != nil {
				t.Fatal(f.reason)
			}
		}
		trial.sending.Wait()
		if err := trial.send(frame{Kind: kindAbort}); err != nil {
			t.Fatal(err)
		}
		if chunks := <-heard; chunks != c.wants {
			t.Errorf("after %+v with %d bytes came %d frames of state, want %d", c.hello, c.state, chunks, c.wants)
		}
	}
}

// The death of a process may be noticed before its last frame is read.
func TestLastWordsOfADeadSuccessorAreTheReason(t *testing.T) {
	near, far := connPair(t)
	dead := &trial{conn: near, far: far, quit: make(chan struct{}), family: &family{pid: 1}}
	defer close(dead.quit)
	dead.in = readFrames(near, dead.quit)
	for _, f := range []frame{{Kind: kindHello}, {Kind: kindFailed, Reason: "no sessions " + strings.Repeat("!", 2*reasonBytes)}} {
		if err := sendFrame(far, f); err != nil {
			t.Fatal(err)
		}
	}
	f := dead.died(errors.New("tableflip: child pid=1 exited: exit status 1"))
	if !strings.Contains(f.reason, "the successor gave up: no sessions !") || len(f.reason) > reasonBytes+100 || f.class != BadBinary {
		t.Errorf("class %s, %d bytes: %.100s", f.class, len(f.reason), f.reason)
	}
}

// An incumbent of the first release announces nothing, so nothing is waited
// for, and the hello is what it has always been.
func TestOlderIncumbentIsAskedForNoState(t *testing.T) {
	raw := golden(t, "handover-1.bin")
	first, err := readFrame(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	h, heard, err := greeting(t, true, func(send func(frame)) { send(first) })
	if err != nil || h.state != nil || h.offer.Lease != 42 {
		t.Errorf("state %v, offer %+v, %v", h.state, h.offer, err)
	}
	if len(heard) != 1 || heard[0].Kind != kindHello || heard[0].TakesState {
		t.Errorf("it heard %+v, want a hello that takes no state", heard)
	}
}

func TestStateIsNotAskedForByAProgramWithoutAny(t *testing.T) {
	h, heard, err := greeting(t, false, func(send func(frame)) {
		send(frame{Kind: kindOffer, Attempt: &Attempt{}, State: &hostState{Size: 10}})
	})
	if err != nil || h.state != nil || len(heard) != 1 || heard[0].TakesState {
		t.Errorf("state %v, heard %+v, %v", h.state, heard, err)
	}
}
