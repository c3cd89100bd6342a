package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// fleetWatcher is a fleet --watch that runs.
type fleetWatcher struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func watchFleet(t *testing.T, more ...string) *fleetWatcher {
	t.Helper()
	return watchCommand(t, append([]string{"fleet", "--watch"}, more...)...)
}

// watchCommand is a command that stays, and prints a line for each change.
func watchCommand(t *testing.T, args ...string) *fleetWatcher {
	t.Helper()
	program := binary(t, "1.0.0")
	// A watch that shows nothing more ends, and the test with it.
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	return &fleetWatcher{t, cmd, lines}
}

// until reads lines up to one that is ok, and returns them.
func (w *fleetWatcher) until(what string, ok func(line string) bool) (lines []string) {
	w.t.Helper()
	for w.lines.Scan() {
		lines = append(lines, w.lines.Text())
		if ok(w.lines.Text()) {
			return lines
		}
	}
	w.t.Fatalf("the watch ended before it showed %s, after %q", what, lines)
	return nil
}

// event reads events up to one that is ok.
func (w *fleetWatcher) event(what string, ok func(event) bool) {
	w.t.Helper()
	w.until(what, func(line string) bool {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatalf("%v in %s", err, line)
		}
		return ok(e)
	})
}

func (w *fleetWatcher) interrupt() {
	w.t.Helper()
	if err := sendSignal(w.cmd.Process.Pid, syscall.SIGINT); err != nil {
		w.t.Fatal(err)
	}
	for w.lines.Scan() {
		w.t.Logf("a last change: %s", w.lines.Text())
	}
	if err := w.cmd.Wait(); err != nil {
		w.t.Errorf("an interrupted watch ends with %v, want 0", err)
	}
}

func TestWatchedFleetShowsAnAgentComeAndGo(t *testing.T) {
	s := newSite(t)
	w := watchFleet(t, "--etcd", s.etcd.URL(), "-o", "json")
	w.event("an empty fleet", func(e event) bool { return e.Change == "synced" && *e.Agents == 0 })
	p := s.start()
	came := false
	w.event("the agent", func(e event) bool {
		came = came || e.Change == added && e.Agent.ID == "a1"
		return came && e.Agent.State.State == agent.Running
	})
	p.stop()
	w.event("that it is gone", func(e event) bool { return e.Change == removed && e.Agent.ID == "a1" })
	w.interrupt()
}

// simulated are agents that only the registry knows.
type simulated struct {
	t      *testing.T
	client *clientv3.Client
	url    string
}

func newSimulated(t *testing.T) *simulated {
	t.Helper()
	etcd := etcdtest.Start(t)
	return &simulated{t, etcd.Client(t), etcd.URL()}
}

func (s *simulated) put(key, value string) {
	s.t.Helper()
	if _, err := s.client.Put(s.t.Context(), "/agents/"+key, value); err != nil {
		s.t.Fatal(err)
	}
}

// agent registers one that runs version and is ready or not.
func (s *simulated) agent(id, version, env, group string, ready bool) {
	s.t.Helper()
	s.put("status/"+id, fmt.Sprintf(`{"schema":1,"health":{"live":true,"ready":%t},"config":{"running":7,"wanted":7},"upgrade":{"state":"idle"}}`, ready))
	s.put("registry/"+id, fmt.Sprintf(`{"schema":1,"id":%q,"version":%q,"labels":{"env":%q},"groups":[%q],"fleet":"default","host":"h1","platform":"linux/amd64","state":{"state":"running"}}`, id, version, env, group))
}

func (s *simulated) fleet(more ...string) result {
	s.t.Helper()
	return agentd(s.t, append([]string{"fleet", "--etcd", s.url}, more...)...)
}

func TestFleetListsWhatIsSelected(t *testing.T) {
	t.Parallel()
	s := newSimulated(t)
	s.agent("db-1", "1.1.0", "prod", "db", true)
	s.agent("web-1", "1.2.0", "prod", "web", true)
	s.agent("web-2", "1.3.0-rc.1", "test", "web", false)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "web-2 db-1 web-1"}, // the worst first
		{[]string{"-l", "env=prod"}, "db-1 web-1"},
		{[]string{"-l", ".id=web-*,.health!=ready"}, "web-2"},
		{[]string{"--group", "web", "--version", ">=1.2, <1.3"}, "web-2 web-1"}, // 1.3.0-rc.1 is below 1.3
		{[]string{"--group", "db,web", "--version", "1.2.0"}, "web-1"},
		{[]string{"--state", "upgrading"}, ""},
		{[]string{"--limit", "2"}, "web-2 db-1"},
		{[]string{"-l", "env=prod", "--limit", "2"}, "db-1 web-1"},
	} {
		var entries []agent.Entry
		r := s.fleet(append(c.args, "-o", "json")...).ok(t)
		if err := json.Unmarshal([]byte(r.stdout), &entries); err != nil {
			t.Fatalf("%v in %s", err, r.stdout)
		}
		var ids []string
		for _, e := range entries {
			ids = append(ids, e.ID)
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("fleet %q lists %q, want %q", c.args, got, c.want)
		}
		if more := strings.Contains(r.stderr, "--limit leaves out 1 agent,"); more != (len(c.args) == 2 && c.args[0] == "--limit") {
			t.Errorf("fleet %q: more is %t:\n%s", c.args, more, r.stderr)
		}
	}
	// On an agent's host AGENTD_GROUP says which groups that agent is in.
	if r := command(t, []string{"AGENTD_GROUP=db"}, "fleet", "--etcd", s.url).ok(t); !strings.Contains(r.stdout, "web-1") {
		t.Errorf("the groups of the host's own agent hide others:\n%s", r.stdout)
	}
	if r := command(t, []string{"AGENTD_SELECTOR=env=test"}, "fleet", "--etcd", s.url).ok(t); !strings.Contains(r.stderr, "1 agent selected by env=test") {
		t.Errorf("a selector from the environment is not told:\n%s", r.stderr)
	}
	if r := s.fleet("-l", "env=none").ok(t); !strings.Contains(r.stdout, "no agent is registered that matches env=none") {
		t.Errorf("an empty selection shows %s", r.stdout)
	}
	if r := s.fleet("--wide").ok(t); !strings.Contains(r.stdout, "linux/amd64") || !strings.Contains(r.stdout, "env=prod") || !strings.Contains(r.stdout, " default ") {
		t.Errorf("--wide shows %s", r.stdout)
	}
	r := s.fleet("--summary").ok(t)
	words := strings.Join(strings.Fields(r.stdout), " ")
	for _, want := range []string{"3 agents", "version 1.1.0 1", "health ready 2", "health not-ready 1", "config 7 3", "group web 2"} {
		if !strings.Contains(words, want) {
			t.Errorf("--summary does not show %q:\n%s", want, r.stdout)
		}
	}
	for _, want := range []string{"severity critical 1", "web-2 1.3.0-rc.1 critical: running: not ready"} {
		if !strings.Contains(words, want) {
			t.Errorf("--summary does not show %q:\n%s", want, r.stdout)
		}
	}
	if r := agentd(t, "fleet", "show", "--etcd", s.url, "web-2").ok(t); !strings.HasPrefix(r.stdout, "web-2 [critical] running: not ready\n") || !strings.Contains(r.stdout, "├ config r7\n") {
		t.Errorf("fleet show prints %s", r.stdout)
	}
	var shown shownAgent
	if r := agentd(t, "fleet", "show", "--etcd", s.url, "web-1", "-o", "json").ok(t); json.Unmarshal([]byte(r.stdout), &shown) != nil || shown.Severity != "ok" || len(shown.Tree.Children) == 0 {
		t.Errorf("fleet show -o json prints %s", r.stdout)
	}
	agentd(t, "fleet", "show", "--etcd", s.url, "nobody").fails(t, 1, "nobody", "agentd fleet")
	agentd(t, "fleet", "show", "--etcd", s.url).fails(t, 2, "ID")
	r = agentd(t, "status", "--etcd", s.url, "--agent", "web-2").ok(t)
	for _, want := range []string{"Agent web-2 runs 1.3.0-rc.1", "on h1 (linux/amd64)", "Groups: web. Labels: env=test.", "Health: not ready.", "Configuration: r7."} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("status --agent does not show %q:\n%s", want, r.stdout)
		}
	}
	var sum agent.Fleet
	if r := s.fleet("--summary", "-o", "json", "-l", "env=prod").ok(t); json.Unmarshal([]byte(r.stdout), &sum) != nil || sum.Agents != 2 || sum.By["group"]["db"] != 1 {
		t.Errorf("--summary -o json prints %s", r.stdout)
	}
}

func TestFleetLargerThanAPageIsListedToTheEnd(t *testing.T) {
	t.Parallel()
	s := newSimulated(t)
	const n = pageSize + 100
	for i := 0; i < n; {
		var ops []clientv3.Op
		for ; i < n && len(ops) < 100; i++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/agents/registry/a%04d", i), fmt.Sprintf(`{"schema":1,"id":"a%04d"}`, i)))
		}
		if _, err := s.client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for limit, want := range map[int]int{0: n, n - 1: n - 1, pageSize: pageSize} {
		var entries []agent.Entry
		r := s.fleet("--limit", strconv.Itoa(limit), "-o", "json").ok(t)
		if err := json.Unmarshal([]byte(r.stdout), &entries); err != nil || len(entries) != want {
			t.Errorf("--limit %d lists %d agents, want %d: %v", limit, len(entries), want, err)
		}
		if more := fmt.Sprintf("leaves out %d agent", n-want); strings.Contains(r.stderr, "leaves out") != (want < n) || want < n && !strings.Contains(r.stderr, more) {
			t.Errorf("--limit %d of %d agents says %q", limit, n, r.stderr)
		}
	}
}

// TestListWithALimitHoldsTheWorstAlone: of 10,000 agents nobody wants all at once
// in memory for the sake of ten.
func TestListWithALimitHoldsTheWorstAlone(t *testing.T) {
	var l listing
	for i := range 10 {
		for j := range pageSize {
			line := fleetLine{row: []string{fmt.Sprintf("a%d-%03d", i, j)}}
			if j == 7 {
				line.severity = agent.SeverityCritical
			}
			l.agents = append(l.agents, line)
		}
		l.worstFirst(3)
		if kept := l.agents[:cap(l.agents)]; len(l.agents) != 3 || kept[3].row != nil {
			t.Fatalf("after page %d %d agents are held", i, len(l.agents))
		}
	}
	if rows := l.rows(); rows[0][0] != "a0-007" || rows[1][0] != "a1-007" || rows[2][0] != "a2-007" {
		t.Errorf("the worst are %v", rows)
	}
}

func TestWrongUsageOfFleetGivesTwo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"selector that is none":    {[]string{"-l", "env=test,"}, []string{"--selector", "column 10"}},
		"field that is none":       {[]string{"-l", ".nope=1"}, []string{"--selector", ".version"}},
		"selector of an unset var": {[]string{"-l", "env="}, []string{"--selector", "column 5"}},
		"version that is none":     {[]string{"--version", "latest"}, []string{"--version", "latest"}},
		"state that is none":       {[]string{"--state", "walking"}, []string{"--state", "running"}},
		"limit below none":         {[]string{"--limit", "-1"}, []string{"--limit", "-1"}},
		"limit of a watch":         {[]string{"--limit", "1", "--watch"}, []string{"--limit"}},
		"wide JSON":                {[]string{"--wide", "-o", "json"}, []string{"--wide"}},
	} {
		t.Run(name, func(t *testing.T) {
			agentd(t, append([]string{"fleet", "--etcd", "http://127.0.0.1:1"}, c.args...)...).fails(t, 2, c.says...)
		})
	}
}

// One agent that changes must not cost a print of 10,000.
func TestWatchedFleetPrintsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	s := newSimulated(t)
	for _, id := range []string{"a1", "a2", "a3"} {
		s.agent(id, "1.0.0", "prod", "web", true)
	}
	w := watchFleet(t, "--etcd", s.url, "-l", "env=prod")
	has := func(parts ...string) func(string) bool {
		return func(line string) bool {
			for _, p := range parts {
				if !strings.Contains(line, p) {
					return false
				}
			}
			return true
		}
	}
	w.until("all at first", has("a3", "1.0.0"))
	s.agent("b1", "1.0.0", "test", "web", true) // is not selected
	s.agent("a2", "1.1.0", "prod", "web", true)
	for _, line := range w.until("the change", has("changed", "a2", "1.1.0")) {
		if strings.Contains(line, "a1") || strings.Contains(line, "a3") || strings.Contains(line, "b1") {
			t.Errorf("a change of a2 shows %s", line)
		}
	}
	// What leaves the selection is gone from it.
	s.agent("a3", "1.0.0", "test", "web", true)
	w.until("what left", has("removed", "a3"))
	s.agent("b1", "1.0.0", "prod", "web", true)
	w.until("what came", has("added", "b1"))
	w.interrupt()
}

// Whoever can write to etcd must not reach the operator's terminal.
func TestNothingInTheRegistryReachesTheTerminalUnescaped(t *testing.T) {
	t.Parallel()
	s := newSimulated(t)
	const evil = `\u001b[2J\u009b2J\u202e\u007f\nforged`
	s.put("registry/a1", `{"schema":1,"id":"a1","version":"`+evil+`","labels":{"`+evil+`":"`+evil+`"},"groups":["`+evil+`"],"host":"`+evil+`","platform":"`+evil+`","binary_digest":"`+evil+`","state":{"state":"`+evil+`"}}`)
	s.put("status/a1", `{"schema":1,"health":{"live":true,"checks":[{"name":"`+evil+`"}],"alerts":[{"name":"`+evil+`"}]},"upgrade":{"state":"`+evil+`","reason":"`+evil+`","to":{"version":"`+evil+`"},"hold":{"by":"`+evil+`","reason":"`+evil+`"},"quarantine":[{"version":"`+evil+`","reason":"`+evil+`"}],"last_failed":{"version":"`+evil+`","reason":"`+evil+`"}}}`)
	s.put("plugins/a1/p", `{"schema":1,"name":"`+evil+`","version":"`+evil+`","state":"`+evil+`"}`)
	s.put("registry/a2", "\x1b[2J\xff\x00")
	s.put("registry/\x1b[2J\nforged", `{"schema":1}`)
	s.put("status/\x9b2J", `{"schema":1}`)
	for _, args := range [][]string{
		nil, {"--wide"}, {"--summary"}, {"-o", "json"}, {"--summary", "-o", "json"},
		{"-l", ".id=a1,\x1b[2J"}, // of the operator's own, but perhaps from a script
	} {
		r := s.fleet(args...)
		s.clean(r, args)
		if !strings.Contains(r.stdout, "a1") && !strings.Contains(r.stdout, "agents") && r.code == 0 {
			t.Errorf("fleet %q says nothing of the agents:\n%s", args, r.stdout)
		}
	}
	if r := s.fleet(); !strings.Contains(r.stderr, "belong to none") {
		t.Errorf("fleet does not tell of a key whose id is none:\n%s", r.stderr)
	}
	for _, id := range []string{"a1", "a2"} {
		s.clean(agentd(t, "status", "--etcd", s.url, "--agent", id), []string{id})
		s.clean(agentd(t, "fleet", "show", "--etcd", s.url, id), []string{id})
	}
	var entries []agent.Entry
	if err := json.Unmarshal([]byte(s.fleet("-l", ".id=a1", "-o", "json").ok(t).stdout), &entries); err != nil || len(entries) != 1 ||
		entries[0].Host != "\x1b[2J\u009b2J\u202e\u007f\nforged" {
		t.Errorf("the escapes of JSON do not mean what was written: %+v, %v", entries, err)
	}
}

func (s *simulated) clean(r result, what []string) {
	s.t.Helper()
	for _, text := range []string{r.stdout, r.stderr} {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			s.t.Errorf("%q reaches the terminal with %q", what, text)
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "forged") {
				s.t.Errorf("%q forges a line:\n%s", what, text)
			}
		}
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
	var entries []*agent.Entry
	if err := json.Unmarshal([]byte(told), &entries); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	show := func(entries []*agent.Entry) {
		out.Reset()
		var rows [][]string
		for _, e := range entries {
			rows = append(rows, fleetTable{}.row(e))
		}
		if err := (fleetTable{}).print(&out, rows); err != nil {
			t.Fatal(err)
		}
	}
	show(entries)
	for _, want := range []string{
		"critical: checks/spool", "not ready (spool), alert memory", "r4, r7 refused", "logtail 2.0.0 refused",
		"release 1.2.0: crashed; /agents/config/global r7: unknown field; x", "written by a newer version",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table does not show %q:\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 4 {
		t.Errorf("the table has %d lines, want 4:\n%s", n, out.String())
	}
	show(entries[1:2])
	for line := range strings.Lines(out.String()) {
		if len(line) > 101 {
			t.Errorf("an agent like any other takes %d columns, 100 are there:\n%s", len(line)-1, line)
		}
	}
	if !strings.Contains(out.String(), " 2 running ") {
		t.Errorf("plugins that run are not counted:\n%s", out.String())
	}
}

// TestFleetTableLeavesNoCellEmpty: columns are told apart by space, also by
// programs.
func TestFleetTableLeavesNoCellEmpty(t *testing.T) {
	table := fleetTable{wide: true}
	for i, cell := range table.row(&agent.Entry{Registration: agent.Registration{ID: "a1"}}) {
		if cell == "" {
			t.Errorf("of an agent that says nothing of itself %s is empty", table.header()[i])
		}
	}
}
