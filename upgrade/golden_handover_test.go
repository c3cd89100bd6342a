package upgrade

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// goldenFrames are those of testdata/handover-1-state.bin: each kind of
// protocol 1 since the host program's state travels, with every member.
func goldenFrames() []frame {
	at := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	from := Ref{Version: "1.0.0", Binary: strings.Repeat("ef", 32)}
	to := Ref{Version: "1.1.0", Manifest: "sha256:" + strings.Repeat("cd", 32), Binary: strings.Repeat("ab", 32)}
	attempt := &Attempt{
		Schema: 1, OrderID: "order-7", By: "operator@host", State: Starting, From: from, To: to,
		Started: at, Updated: at.Add(5 * time.Second), Deadline: at.Add(35 * time.Second),
	}
	return []frame{
		{Kind: kindOffer, Version: "1.0.0", PID: 100, Attempt: attempt, Lease: 42, ProbationMS: 30000, State: &hostState{Size: 8}},
		{Kind: kindHello, Version: "1.1.0", PID: 101, TakesState: true},
		{Kind: kindState, Host: []byte("sess")},
		{Kind: kindState, Host: []byte("ions")},
		{Kind: kindFailed, Reason: "the sessions are of another kind"},
		{Kind: kindServing},
		{Kind: kindHealth},
		{Kind: kindHealth, Failing: []string{"disk: full"}},
		{Kind: kindCommit, Next: &Request{
			ID: "order-8", By: "operator@host", Pin: release.Pin{Version: "1.2.0", Digest: "sha256:" + strings.Repeat("12", 32)}, Expect: "1.1.0",
		}},
		{Kind: kindCommit},
		{Kind: kindAbort, Reason: "unhealthy"},
	}
}

func TestHandoverFramesAreWrittenAsEver(t *testing.T) {
	var wire bytes.Buffer
	for _, f := range goldenFrames() {
		if err := writeFrame(&wire, f); err != nil {
			t.Fatal(err)
		}
	}
	if want := golden(t, "handover-1-state.bin"); !bytes.Equal(wire.Bytes(), want) {
		t.Errorf("now written as\n%q\nwant\n%q", wire.Bytes(), want)
	}
}

func TestHandoverFramesWithStateAreReadAsEver(t *testing.T) {
	wire := bytes.NewReader(golden(t, "handover-1-state.bin"))
	for _, want := range goldenFrames() {
		got, err := readFrame(wire)
		want.Protocol = 1
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("read as\n%+v, %v\nwant\n%+v", got, err, want)
		}
	}
	if _, err := readFrame(wire); !errors.Is(err, io.EOF) {
		t.Errorf("after the last frame: %v", err)
	}
}

// firstFrame is the frame as the first release of protocol 1 reads it. It is
// never edited.
type firstFrame struct {
	Protocol    int      `json:"protocol"`
	Kind        string   `json:"kind"`
	Version     string   `json:"version,omitempty"`
	PID         int      `json:"pid,omitempty"`
	Attempt     *Attempt `json:"attempt,omitempty"`
	Lease       int64    `json:"lease,omitempty"`
	ProbationMS int64    `json:"probation_ms,omitempty"`
	Host        []byte   `json:"host,omitempty"`
	Files       []struct {
		Name string `json:"name"`
	} `json:"files,omitempty"`
	Failing []string `json:"failing,omitempty"`
	Reason  string   `json:"reason,omitempty"`
}

func TestFirstReleaseReadsTodaysFrames(t *testing.T) {
	wire := golden(t, "handover-1-state.bin")
	for _, now := range goldenFrames() {
		size := binary.BigEndian.Uint32(wire)
		var then firstFrame
		if err := json.Unmarshal(wire[4:4+size], &then); err != nil {
			t.Errorf("%s: %v", now.Kind, err)
		}
		wire = wire[4+size:]
		if then.Protocol != 1 || then.Kind != now.Kind || then.Version != now.Version || then.PID != now.PID || then.Lease != now.Lease ||
			then.ProbationMS != now.ProbationMS || then.Reason != now.Reason || !slices.Equal(then.Failing, now.Failing) || !reflect.DeepEqual(then.Attempt, now.Attempt) {
			t.Errorf("read as %+v, sent as %+v", then, now)
		}
	}
}

func TestBadFramesAreRefusedWithWhatToDo(t *testing.T) {
	framed := func(body string) string {
		return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body //nolint:gosec // short
	}
	for name, c := range map[string]struct{ wire, want, do string }{
		"not a frame":        {"HTTP/1.1 400 Bad Request\r\n\r\n", "at most 1048576 are allowed", "publish a release that is built with this library"},
		"oversized":          {"\x00\x10\x00\x01", "frame of 1048577 bytes", "publish a release that is built with this library"},
		"largest length":     {"\xff\xff\xff\xff", "at most 1048576 are allowed", "publish a release that is built with this library"},
		"garbage in a frame": {framed("\x00\x01garbage"), "is not JSON", "publish a release that is built with this library"},
		"another shape":      {framed(`{"protocol":1,"kind":"offer","pid":"100"}`), "is not JSON", "publish a release that is built with this library"},
		"empty":              {framed(""), "is not JSON", "publish a release that is built with this library"},
		"newer protocol":     {framed(`{"protocol":2,"kind":"offer"}`), "handover protocol 2, this agent speaks 1", "upgrade through a release that speaks both"},
		"no protocol":        {framed(`{}`), "handover protocol 0", "upgrade through a release that speaks both"},
		"truncated":          {framed(`{"protocol":1,"kind":"offer"}`)[:20], "cut off", "its log tells why"},
		"truncated length":   {"\x00\x00", "cut off", "its log tells why"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readFrame(strings.NewReader(c.wire))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.do) {
				t.Errorf("%v, want %q and %q", err, c.want, c.do)
			}
		})
	}
}

func FuzzHandoverWithState(f *testing.F) {
	f.Add(golden(f, "handover-1.bin"))
	f.Add(golden(f, "handover-1-state.bin"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h := &handover{quit: make(chan struct{})}
		defer close(h.quit)
		in := make(chan inbound)
		h.in = in
		h.offer = frame{State: &hostState{Size: 8}}
		go func() {
			wire := bytes.NewReader(data)
			for {
				f, err := readFrame(wire)
				select {
				case in <- inbound{f, err}:
				case <-h.quit:
					return
				}
				if err != nil {
					return
				}
			}
		}()
		err := h.receiveState(t.Context())
		if (err == nil) != (len(h.state) == 8) {
			t.Errorf("%d bytes of 8 with %v", len(h.state), err)
		}
	})
}
