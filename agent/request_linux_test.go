package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

// requests has the program that serves ask its agent for r, and returns what
// it is told.
func (m *member) requests(r upgrade.Request) error {
	m.Helper()
	addr, err := os.ReadFile(m.state + "/address")
	if err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(m.ctx(), http.MethodPost, "http://"+string(addr)+"/request", bytes.NewReader(data))
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	_, err = said.ReadFrom(res.Body)
	_ = res.Body.Close()
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", said.String())
	}
	return err
}

func TestProgramAsksItsOwnAgentForAnUpgradeAndBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	m.registered()
	pin := f.publish(build{Version: "1.1.0"})
	for name, c := range map[string]struct {
		r    upgrade.Request
		says string
	}{
		"no pin":         {upgrade.Request{ID: "x"}, "cannot be performed"},
		"unknown action": {upgrade.Request{ID: "x", Action: "reboot"}, "reboot"},
		"long":           {upgrade.Request{ID: "x", Pin: pin, By: strings.Repeat("x", orderLimit+1)}, "at most 1024 are taken"},
	} {
		if err := m.requests(c.r); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct {
		r    upgrade.Request
		want string
	}{
		{upgrade.Request{ID: "mine", Pin: pin, Expect: "1.0.0", By: "program"}, "1.1.0"},
		{upgrade.Request{ID: "back", Action: upgrade.ActionRollback}, "1.0.0"},
	} {
		if err := m.requests(c.r); err != nil {
			t.Fatal(err)
		}
		waittest.Nil(t, "the request "+c.r.ID+" is committed", func() error {
			s := m.registered().Status.Upgrade
			if s.OrderID != c.r.ID || s.State != upgrade.Committed || s.By != c.r.By || s.Running.Version != c.want {
				return fmt.Errorf("%+v, %s runs", s.Attempt, s.Running.Version)
			}
			return nil
		})
		m.runs(c.want)
	}
	if err := m.requests(upgrade.Request{ID: "audit", Action: upgrade.ActionHold, Reason: "audit"}); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the agent is held", func() bool {
		s := m.registered().Status.Upgrade
		return s.Hold != nil && s.Hold.Reason == "audit" && s.Answer != nil && s.Answer.OrderID == "audit"
	})
}
