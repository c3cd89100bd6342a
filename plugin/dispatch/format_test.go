package dispatch

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// values are what lies in etcd, by the golden file that shows each as schema 1
// has it. Another release of the same program reads them.
func values() map[string]checker {
	at := func(second int) time.Time { return time.Date(2026, 11, 26, 10, 0, second, 5e6, time.UTC) }
	task := Task{
		ID: "nightly-7", Plugin: "exec", Capability: "run", Version: ">=1.2, <2", Selector: "env=test,.group=eu", Policy: Rendezvous,
		Key: "db/7", Priority: 5, NotBefore: at(1), Deadline: at(50), Timeout: 20 * time.Second, Payload: []byte("df -h"),
		Retry: Retry{Max: 3, MinBackoff: time.Second, MaxBackoff: time.Minute}, Resumable: true, IdempotencyKey: "nightly 7",
		ResultTTL: time.Hour, SubmittedBy: "op@host",
	}
	digest := strings.Repeat("0a", 32)
	run := task
	run.ID, run.Policy, run.Key, run.Payload, run.IdempotencyKey = "nightly-8.000001", Any, "", nil, "nightly 8/web-2"
	point := resume{Number: 2, Bytes: 300, Cursor: "line 40", Cut: true}
	history := []Attempt{{Number: 1, Agent: "web-1", Ended: endLost, Error: "agent web-1 is away from etcd", Assigned: at(2), Finished: at(9)}}
	return map[string]checker{
		"spec":     &spec{Schema: 1, Task: task, Submitted: at(0), Digest: digest},
		"spec-run": &spec{Schema: 1, Task: run, Submitted: at(0), Digest: digest, PayloadBytes: 5000, PayloadOf: "nightly-8", Parent: "nightly-8", Pinned: "web-2"},
		"state": &record{
			Schema: 1, State: Assigned, Since: at(10), Agent: "web-2", Attempt: 2, Failures: 1, Losses: 1, Attempts: history,
			Error: "agent web-1 is away from etcd", Cancel: &cancel{By: "op@host", At: at(11)},
			Resume: point, Segments: []segment{{"web-1", 1}, {"web-2", 3}},
		},
		"state-spread": &record{Schema: 1, State: Spread, Since: at(0), Total: 1000, Created: 500},
		"state-queued": &record{Schema: 1, State: Queued, Since: at(10), Agent: "web-2", Attempt: 2, Failures: 1, Error: "exit 1", Next: at(20)},
		"done": &record{
			Schema: 1, State: Dead, Since: at(30), Agent: "web-2", Attempt: 1, Failures: 1, Error: "3 of 4 runs succeeded",
			Attempts: []Attempt{{Number: 1, Agent: "web-2", Ended: endPermanent, Error: "no such command", Assigned: at(2), Started: at(3), Finished: at(9)}},
			Resume:   point, Last: resume{Number: 5, Bytes: 900}, Segments: []segment{{"web-2", 1}},
			Total: 4, Created: 4, Runs: &Runs{Total: 4, Succeeded: 3, Dead: 1}, Finished: at(30), Expires: at(59),
		},
		"spec-traced":  &spec{Schema: 1, Task: run, Submitted: at(0), Digest: digest, Parent: "nightly-8", Pinned: "web-2", Traceparent: traceparent},
		"inbox-traced": &assignment{Schema: 1, Attempt: 1, Capability: "run", Traceparent: traceparent},
		"targets":      &targets{Schema: 1, Agents: []string{"web-1", "web-2"}},
		"payload":      &payloadValue{Schema: 1, Payload: []byte("long")},
		"key":          &pointer{Schema: 1, ID: "nightly-7", Digest: digest},
		"leader":       &leaderValue{Schema: 1, ID: "web-1", Since: at(0)},
		"worker": &workerValue{Schema: 1, WorkerInfo: WorkerInfo{
			Agent: "web-1", Instance: "5f0c", Labels: map[string]string{"env": "test"}, Groups: []string{"eu"}, Host: "web-1.example.com",
			Platform: "linux/amd64", Version: "1.2.3", Plugins: []WorkerPlugin{{Name: "exec", Version: "1.4.0", Capabilities: []string{"run"}}},
			Concurrency: 4, Room: 8,
		}},
		"inbox": &assignment{
			Schema: 1, Attempt: 2, Plugin: "exec", Capability: "run", Version: ">=1.2, <2", Payload: []byte("df -h"), Resume: point,
			Deadline: at(50), Timeout: 20 * time.Second, Resumable: true, IdempotencyKey: "nightly 7",
		},
		"claim":  &claim{Schema: 1, Instance: "5f0c", At: at(11)},
		"result": &resultValue{Schema: 1, Attempt: 2, Payload: []byte("line 40"), Cursor: "line 40", Bytes: 300000, At: at(12), Resume: point},
		"outcome": &outcome{
			Schema: 1, Attempt: 2, Instance: "5f0c", Ended: endFailed, Error: "exit 1", Started: at(11), Finished: at(13),
			Last: resume{Number: 5, Bytes: 900}, Resume: point,
		},
	}
}

func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+"-1.json"))
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.TrimSpace(data)
}

func TestValuesOfSchema1AreStillReadAndWritten(t *testing.T) {
	for name, want := range values() {
		data := golden(t, name)
		got := reflect.New(reflect.TypeOf(want).Elem()).Interface().(checker)
		if err := decode(name, data, got); err != nil {
			t.Error(err)
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as\n%+v, want\n%+v", name, got, want)
		}
		if written, err := encode(want); err != nil || written != string(data) {
			t.Errorf("%s is written as\n%s, %v, want\n%s", name, written, err, data)
		}
	}
}

func TestTraceThatIsNoneIsNoReasonToRefuseATask(t *testing.T) {
	for name, want := range values() {
		data := strings.ReplaceAll(string(golden(t, name)), traceparent, strings.Repeat("x", 1000))
		got := reflect.New(reflect.TypeOf(want).Elem()).Interface().(checker)
		if err := decode(name, []byte(data), got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if written, err := encode(got); err != nil || strings.Contains(written, "xxx") {
			t.Errorf("%s is passed on as %s, %v", name, written, err)
		}
	}
}

func TestValueThatIsDamagedIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ value, data string }{
		"newer":                {"spec", `{"schema":2}`},
		"none":                 {"spec", ``},
		"list":                 {"spec", `[]`},
		"twice":                {"claim", `{"schema":1,"instance":"a","Instance":"b"}`},
		"deep":                 {"spec", strings.Repeat(`{"a":`, 10) + "1" + strings.Repeat("}", 10)},
		"large":                {"payload", `{"schema":1,"payload":"` + strings.Repeat("A", maxValue) + `"}`},
		"payload":              {"payload", `{"schema":1,"payload":"` + strings.Repeat("A", (MaxPayload+3)/3*4) + `"}`},
		"id":                   {"spec", `{"schema":1,"id":"../x","capability":"c","policy":"any"}`},
		"id of a key":          {"key", `{"schema":1,"id":"a/b","digest":"` + strings.Repeat("0", 64) + `"}`},
		"state":                {"state", `{"schema":1,"state":"running"}`},
		"assigned to nobody":   {"state", `{"schema":1,"state":"assigned"}`},
		"agent":                {"state", `{"schema":1,"state":"queued","agent":"a/b"}`},
		"segments":             {"state", `{"schema":1,"state":"queued","segments":[{"agent":"a","from":3},{"agent":"b","from":3}]}`},
		"segment's agent":      {"state", `{"schema":1,"state":"queued","segments":[{"agent":"../..","from":1}]}`},
		"results":              {"state", `{"schema":1,"state":"queued","resume":{"number":10000000}}`},
		"more than all":        {"state", `{"schema":1,"state":"spread","total":1,"created":2}`},
		"attempt":              {"inbox", `{"schema":1,"attempt":0,"capability":"c"}`},
		"constraint":           {"inbox", `{"schema":1,"attempt":1,"capability":"c","version":"latest"}`},
		"terminal":             {"inbox", `{"schema":1,"attempt":1,"capability":"c","idempotency_key":"\u001b[2J"}`},
		"end":                  {"outcome", `{"schema":1,"attempt":1,"ended":"lost"}`},
		"resumes after itself": {"outcome", `{"schema":1,"attempt":1,"ended":"failed","resume":{"number":1}}`},
		"room":                 {"worker", `{"schema":1,"agent":"a","instance":"i","concurrency":1,"room":1000000}`},
		"agent's id":           {"targets", `{"schema":1,"agents":["a/b"]}`},
		"long error":           {"outcome", `{"schema":1,"attempt":1,"ended":"failed","error":"` + strings.Repeat("x", maxError+1) + `"}`},
	} {
		into := reflect.New(reflect.TypeOf(values()[c.value]).Elem()).Interface().(checker)
		if err := decode("key", []byte(c.data), into); err == nil {
			t.Errorf("%s is taken as %+v", name, into)
		} else if name == "newer" && !errors.Is(err, ErrSchema) {
			t.Errorf("%s: want ErrSchema, got %v", name, err)
		}
	}
}

func TestMembersThatAreNotKnownAreIgnored(t *testing.T) {
	var c claim
	if err := decode("claim", []byte(`{"schema":1,"instance":"a","at":"2026-01-02T03:04:05Z","later":{"x":[1]}}`), &c); err != nil || c.Instance != "a" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestKeyOfNobodyIsLeftAlone(t *testing.T) {
	k, err := newKeys("")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{
		"a/t": true, "a/t.000001": true, "a/t.1": false, "a/": false, "/t": false, "t": false, "a/b/c": false, "a/../t": false,
		"a/t.000001.000001": false, "a/" + strings.Repeat("x", MaxID+1): false,
	} {
		agent, id, ok := belowAgent(k.outcomes(), k.outcomes()+key)
		if ok != want || ok && k.outcome(agent, id) != k.outcomes()+key {
			t.Errorf("%s: %t, %s, %s", key, ok, agent, id)
		}
	}
	if key, prefixes := AgentKeys("x", "web-1"); key != "/x/tasks/worker/web-1" || len(prefixes) != 4 {
		t.Errorf("%s, %s", key, prefixes)
	}
}

// FuzzValue: whoever can write to etcd can write anything there; what is read
// must be what would be written.
func FuzzValue(f *testing.F) {
	for name := range values() {
		f.Add(name, golden(f, name))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		kind := values()[name]
		if kind == nil {
			return
		}
		first := reflect.New(reflect.TypeOf(kind).Elem()).Interface().(checker)
		if decode(name, data, first) != nil {
			return
		}
		written, err := json.Marshal(first)
		if err != nil {
			return // a time that JSON has not
		}
		second := reflect.New(reflect.TypeOf(kind).Elem()).Interface().(checker)
		if len(written) > maxValue {
			return
		}
		if err := decode(name, written, second); err != nil {
			t.Fatalf("%s was read and is refused as it is written: %v", data, err)
		}
		again, err := json.Marshal(second)
		if err != nil || !bytes.Equal(written, again) {
			t.Errorf("%s\nis written as\n%s\nand then as\n%s", data, written, again)
		}
	})
}

func FuzzKey(f *testing.F) {
	for _, key := range []string{"/agents/tasks/outcome/a/t", "/agents/tasks/state/t.000001", "/agents/tasks/worker/a", "/agents/tasks/outcome/a/b/c"} {
		f.Add(key)
	}
	k, err := newKeys("")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if agent, id, ok := belowAgent(k.outcomes(), key); ok && k.outcome(agent, id) != key {
			t.Errorf("%q is taken for %s and %s", key, agent, id)
		}
		if id, ok := below(k.states(), key); ok && (k.state(id) != key || strings.Contains(id, "/")) {
			t.Errorf("%q is taken for %s", key, id)
		}
	})
}
