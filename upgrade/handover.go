package upgrade

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// handoverProtocol is the version of the frames below. A process refuses a
// peer whose version differs in the major sense, that is at all; unknown
// kinds and fields are ignored, so additions do not need a new version.
const handoverProtocol = 1

// frameLimit bounds one frame, in bytes.
const frameLimit = 1 << 20

// Kinds of frames. The incumbent sends offer, state, ask, commit and abort; the
// successor sends hello, failed, trouble, serving and health.
const (
	kindOffer   = "offer"
	kindHello   = "hello"
	kindState   = "state"
	kindFailed  = "failed"
	kindServing = "serving"
	kindHealth  = "health"
	kindAsk     = "ask"
	kindTrouble = "trouble"
	kindCommit  = "commit"
	kindAbort   = "abort"
)

// frame is one message on the handover socket: a big-endian uint32 length
// and that many bytes of JSON.
type frame struct {
	Protocol int    `json:"protocol"`
	Kind     string `json:"kind"`

	// offer and hello
	Version string `json:"version,omitempty"`
	PID     int    `json:"pid,omitempty"`

	// offer
	Attempt     *Attempt       `json:"attempt,omitempty"`
	Lease       int64          `json:"lease,omitempty"`
	ProbationMS int64          `json:"probation_ms,omitempty"`
	State       *hostState     `json:"state,omitempty"`
	Files       []handoverFile `json:"files,omitempty"`
	// Activated names the sockets of the service manager, in the order in
	// which they are passed. A name may be empty.
	Activated []string `json:"activated,omitempty"`

	// hello
	TakesState bool `json:"takes_state,omitempty"`

	// state
	Host []byte `json:"host,omitempty"`

	// health
	Failing []string `json:"failing,omitempty"`

	// commit
	Next *Request `json:"next,omitempty"`
	// Paused is when the incumbent stopped to take connections.
	Paused time.Time `json:"paused,omitzero"`
	// NextHere is set where Next was asked for on the host itself.
	NextHere bool `json:"next_here,omitempty"`

	// abort, failed and trouble
	Reason string `json:"reason,omitempty"`
}

// handoverFile is reserved for descriptors that travel beside a frame.
type handoverFile struct {
	Name string `json:"name"`
}

func (f frame) probation() time.Duration { return time.Duration(f.ProbationMS) * time.Millisecond }

// sendTimeout bounds the write of one frame: a peer that does not read must
// not hold up the other.
const sendTimeout = 5 * time.Second

// sendFrame writes f to conn.
func sendFrame(conn net.Conn, f frame) error {
	if err := conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	return writeFrame(conn, f)
}

// writeFrame encodes f onto w.
func writeFrame(w io.Writer, f frame) error {
	f.Protocol = handoverProtocol
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if len(body) > frameLimit {
		return fmt.Errorf("handover frame %s has %d bytes, at most %d are allowed: shorten what the program reports", f.Kind, len(body), frameLimit)
	}
	buf := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))) //nolint:gosec // bounded above
	_, err = w.Write(append(buf, body...))
	return err
}

// noPeer is what to do about bytes that are no frames.
const noPeer = "the peer does not speak this protocol; publish a release that is built with this library"

// errCutOff ends a stream in the middle of a frame.
var errCutOff = fmt.Errorf("handover frame cut off: %w: the peer ended while it spoke, its log tells why", io.ErrUnexpectedEOF)

// readFrame returns the next frame. The error is io.EOF where the peer has
// closed its end between frames.
func readFrame(r io.Reader) (frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.ErrUnexpectedEOF) {
		return frame{}, errCutOff
	} else if err != nil {
		return frame{}, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > frameLimit {
		return frame{}, fmt.Errorf("handover frame of %d bytes, at most %d are allowed: %s", size, frameLimit, noPeer)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return frame{}, errCutOff
	}
	var f frame
	if err := json.Unmarshal(body, &f); err != nil {
		return frame{}, fmt.Errorf("handover frame is not JSON: %w: %s", err, noPeer)
	}
	if f.Protocol != handoverProtocol {
		return frame{}, fmt.Errorf("handover protocol %d, this agent speaks %d: upgrade through a release that speaks both", f.Protocol, handoverProtocol)
	}
	return f, nil
}

// inbound is what arrives on a handover socket: a frame, or the error that
// ended the stream.
type inbound struct {
	frame frame
	err   error
}

// readFrames delivers what arrives on conn until it fails or done is closed.
func readFrames(conn net.Conn, done <-chan struct{}) <-chan inbound {
	in := make(chan inbound)
	go func() {
		defer close(in)
		for {
			f, err := readFrame(conn)
			select {
			case in <- inbound{f, err}:
			case <-done:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return in
}

// fileConn makes a connection of a socket's file and closes the file.
func fileConn(f *os.File) (net.Conn, error) {
	conn, err := net.FileConn(f)
	return conn, errors.Join(err, f.Close())
}
