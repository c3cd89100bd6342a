package main

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/agent"
)

func TestWatchedFleetShowsAnAgentComeAndGo(t *testing.T) {
	s := newSite(t)
	cmd := exec.CommandContext(t.Context(), binary(t, "1.0.0"), "fleet", "--etcd", s.etcd.URL(), "--watch", "-o", "json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	until := func(what string, ok func([]agent.Entry) bool) {
		t.Helper()
		for lines.Scan() {
			var entries []agent.Entry
			if err := json.Unmarshal(lines.Bytes(), &entries); err != nil {
				t.Fatalf("%v in %s", err, lines.Text())
			}
			if ok(entries) {
				return
			}
		}
		t.Fatalf("the watch ended before it showed %s", what)
	}
	until("an empty fleet", func(e []agent.Entry) bool { return len(e) == 0 })
	p := s.start()
	until("the agent", func(e []agent.Entry) bool { return len(e) == 1 && e[0].ID == "a1" && e[0].State.State == agent.Running })
	p.stop()
	until("an empty fleet again", func(e []agent.Entry) bool { return len(e) == 0 })
	if err := sendSignal(cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		t.Logf("a last change: %s", lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("an interrupted watch ends with %v, want 0", err)
	}
}

func TestFleetTableShowsWhatIsWrong(t *testing.T) {
	const told = `[
	{"schema":1,"id":"a1","version":"1.0.0","binary_digest":"0123456789abcdef","state":{"state":"running"},
	 "status":{"schema":1,
	  "health":{"live":true,"ready":false,"checks":[{"name":"spool","kind":"readiness","ok":false}],"alerts":[{"name":"memory"}]},
	  "config":{"running":4,"wanted":7,"last_failed":{"revision":7,"key":"/agents/config/global","reason":"unknown field\nx"}},
	  "upgrade":{"last_failed":{"version":"1.2.0","reason":"crashed"}}},
	 "plugins":[{"name":"logtail","version":"2.0.0","state":"refused"}]},
	{"schema":1,"id":"web-0001","version":"1.10.0","binary_digest":"0123456789abcdef","state":{"state":"running"},
	 "status":{"schema":1,"health":{"live":true,"ready":true},"config":{"running":12345,"wanted":12345},
	  "upgrade":{"state":"committed","action":"rollback","to":{"version":"1.10.0"}}},
	 "plugins":[{"name":"hostmetrics","version":"2.0.0","state":"running"},{"name":"logtail","version":"2.0.0","state":"running"}]},
	{"id":"a2","error":"written by a newer version"}]`
	var entries []agent.Entry
	if err := json.Unmarshal([]byte(told), &entries); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := printFleet(&out, entries); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"0123456789ab ", "not ready (spool), alert memory", "r4, r7 refused", "logtail 2.0.0 refused",
		"release 1.2.0: crashed; /agents/config/global r7: unknown field; x", "written by a newer version",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table does not show %q:\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 4 {
		t.Errorf("the table has %d lines, want 4:\n%s", n, out.String())
	}
	out.Reset()
	if err := printFleet(&out, entries[1:2]); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 101 {
			t.Errorf("an agent like any other takes %d columns, 100 are there:\n%s", len(line)-1, line)
		}
	}
	if !strings.Contains(out.String(), " 2 running ") {
		t.Errorf("plugins that run are not counted:\n%s", out.String())
	}
}
