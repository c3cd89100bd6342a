package upgrade

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
)

func TestFramesAboutSocketsOfProtocol1AreStillRead(t *testing.T) {
	wire := bytes.NewReader(golden(t, "handover-1-sockets.bin"))
	offer, err := readFrame(wire)
	if err != nil || offer.Kind != kindOffer || !slices.Equal(offer.Activated, []string{"web", ""}) || offer.Attempt.State != Starting {
		t.Errorf("offer %+v, %v", offer, err)
	}
	trouble, err := readFrame(wire)
	if err != nil || trouble.Kind != kindTrouble || trouble.Reason != "listen tcp 127.0.0.1:80: bind: address already in use" {
		t.Errorf("trouble %+v, %v", trouble, err)
	}
	if _, err := readFrame(wire); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last frame: %v", err)
	}
}
