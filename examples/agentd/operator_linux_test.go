package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/upgrade"
)

func TestCommandCarriesTheVersionThatItFoundUnlessToldOtherwise(t *testing.T) {
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	pid := s.startForGood().cmd.Process.Pid
	// Stopped, so that what it is asked stays where it is.
	if err := sendSignal(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sendSignal(pid, syscall.SIGCONT) }()
	client := s.etcd.Client(t)
	given := map[string]func() ([]byte, error){
		"by order": func() ([]byte, error) {
			res, err := client.Get(t.Context(), "/agents/order/a1")
			if err != nil || len(res.Kvs) == 0 {
				return nil, errors.Join(err, errors.New("no order"))
			}
			return res.Kvs[0].Value, nil
		},
		"on its own host": func() ([]byte, error) { return os.ReadFile(filepath.Join(s.state, "request.json")) },
	}
	for name, way := range s.ways() {
		for expect, want := range map[string]string{"": "1.0.0", "any": "", "0.9.0": "0.9.0"} {
			operate(t, "rollback", way, "--expect", expect, "--by", "ops", "--wait", "1ms").fails(t, 1, "the order stands")
			data, err := given[name]()
			var r upgrade.Request
			if err == nil {
				err = json.Unmarshal(data, &r)
			}
			if err != nil || r.Expect != want || r.By != "ops" || r.Action != upgrade.ActionRollback {
				t.Errorf("%s with --expect %q: %s, %v; want it to expect %q", name, expect, data, err, want)
			}
		}
	}
	shows(t, []string{"Waiting: the rollback to the release before, asked for by ops"}, "status", "--state-dir", s.state)
}
