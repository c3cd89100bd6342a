package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

func TestRequestThatWaitsAtCommitIsPerformedByTheSuccessor(t *testing.T) {
	r := newRig(t, 1500*time.Millisecond, nil)
	pins := []release.Pin{r.publish(build{Version: "1.1.0"}), r.publish(build{Version: "1.2.0"}), r.publish(build{Version: "1.3.0"})}
	// One connection that the incumbent goes on answering in probation.
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	base := r.url("")
	ask := func(pin release.Pin) error {
		res, err := client.Post(base+"/upgrade?id="+pin.Version+"&pin="+url.QueryEscape(pin.String()), "", nil)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	if err := ask(pins[0]); err != nil {
		t.Fatal(err)
	}
	waittest.Nil(t, "the attempt is in probation", func() error {
		res, err := client.Get(base + "/status")
		if err != nil {
			return err
		}
		var s Status
		err = errors.Join(json.NewDecoder(res.Body).Decode(&s), res.Body.Close())
		if err == nil && s.State != Probation {
			err = fmt.Errorf("state %s", s.State)
		}
		return err
	})
	for _, pin := range pins[1:] {
		if err := ask(pin); err != nil {
			t.Fatal(err)
		}
	}
	client.CloseIdleConnections() // the drain would wait for them
	if s := r.ends("1.3.0"); s.State != Committed || s.From.Version != "1.1.0" {
		t.Errorf("%s from %s (%s), want the newest request, committed from 1.1.0", s.State, s.From.Version, s.Reason)
	}
}

func TestRequestAskedAgainWhileItIsPerformedIsOne(t *testing.T) {
	u, err := New(Config{StateDir: t.TempDir(), Name: "demo", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	one, two := Request{ID: "one"}, Request{ID: "two"}
	u.Request(one)
	u.queue(&two, true)
	if r := u.take(); r == nil || r.ID != "one" {
		t.Fatalf("took %+v: what waited in the incumbent is older", r)
	}
	u.queue(nil, true)
	u.Request(one)
	if r := u.waiting(); r != nil {
		t.Errorf("%+v waits although it is performed", r)
	}
	u.Request(two)
	u.Request(one)
	if r := u.waiting(); r == nil || r.ID != "two" {
		t.Errorf("%+v waits, want two", r)
	}
}

func TestRequestMayBeAskedAgainOnceItHasEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	pin := r.publish(build{Version: "1.1.0", Fault: "exit"})
	r.ask(pin)
	r.ends("1.1.0")
	r.ask(pin)
	waittest.Nil(t, "the second attempt under the same id", func() error {
		if s := r.ends("1.1.0"); s.State != Failed || !strings.Contains(s.Reason, "quarantined") {
			return fmt.Errorf("%s (%s)", s.State, s.Reason)
		}
		return nil
	})
}
