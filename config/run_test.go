package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestLayersMergeInOrder: a host's own setting must win over its group's, and
// that over everybody's.
func TestLayersMergeInOrder(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	publish(t, c, "agent/other", "server: {host: other}")
	publish(t, c, "agent/a1", "server: {port: 4}\nlabels: {agent: a1, drop: null}")
	publish(t, c, "group/eu", "server: {port: 3, timeout: 3s}\ntags: [eu]")
	publish(t, c, "group/web", "server: {port: 2, timeout: 2s, host: web}\ntags: [web, also]\nlabels: {drop: me}")
	last := publish(t, c, "global", `{"server": {"port": 1, "host": "global"}, "limit": 7}`)
	r := newRig(t, c, "")
	r.start(t)
	limit := 7
	want := settings{
		Server: server{Host: "web", Port: 4, Timeout: 3 * time.Second},
		Tags:   []string{"eu"},
		Labels: map[string]string{"from": "default", "agent": "a1"},
		Limit:  &limit,
	}
	got := r.Snapshot()
	if !reflect.DeepEqual(got.Value, want) || got.Revision != last || got.Origin != config.OriginEtcd || got.At.IsZero() {
		t.Errorf("got %+v\nwant %+v at revision %d", got, want, last)
	}
	if s := r.Status(); s.Running != last || s.Wanted != last || s.LastFailed != nil || s.Error != "" || s.Origin != "etcd" {
		t.Errorf("status %+v", s)
	}
}

// TestNoDocumentsMeanDefault: a fleet starts without anybody having published
// anything, and gets back there when documents are deleted.
func TestNoDocumentsMeanDefault(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	r := newRig(t, c, "")
	if s := r.Snapshot(); s.Origin != config.OriginDefault || !reflect.DeepEqual(s.Value, defaults()) {
		t.Errorf("before Run: %+v", s)
	}
	r.start(t)
	if s := r.Snapshot(); s.Origin != config.OriginEtcd || s.Revision != 0 || !reflect.DeepEqual(s.Value, defaults()) {
		t.Errorf("without documents: %+v", s)
	}
	revision := publish(t, c, "global", "tags: [a]\nserver: {port: 1}\nlabels: {from: etcd}")
	r.runs(t, revision)
	if _, err := c.Delete(t.Context(), "/agents/config/global"); err != nil {
		t.Fatal(err)
	}
	r.runs(t, 0)
	if s := r.Snapshot(); !reflect.DeepEqual(s.Value, defaults()) {
		t.Errorf("after the documents were deleted: %+v: the default was written to", s.Value)
	}
}

// TestBadDocumentChangesNothing: each of these would otherwise stop or empty
// every agent of the fleet at once.
func TestBadDocumentChangesNothing(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	const key = "/agents/config/group/web"
	file := goodFile(t)
	good := publish(t, c, "global", "server: {port: 1}")
	r := newRig(t, c, file)
	r.start(t)
	r.keepsFile(t)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, bad := range []struct{ name, document, reason string }{
		{"malformed", "server: [", "line 1"},
		{"binary", "\x00\xff\xfe", "control characters"},
		{"empty", "", "it is empty"},
		{"only a comment", "# later", "it is empty"},
		{"a list", "[1, 2]", "it is a list"},
		{"a word", "hello", "a single value"},
		{"two documents", "a: 1\n---\nb: 2", "one document"},
		{"a key twice", "server: {}\nserver: {}", `"server" is given twice`},
		{"a key that is no name", "[a]: 1", "want a name"},
		{"unknown field", "server: {prot: 1}", "unknown field server.prot"},
		{"unknown field set to null", "serve: null", "unknown field serve"},
		{"wrong case", "Server: {}", "unknown field Server"},
		{"wrong type", "server: {port: many}", "server.port: want uint16, found text"},
		{"a mapping for a list", "tags: {a: b}", "tags: "},
		{"number too large", "server: {port: 70000}", "server.port: the number does not fit: want uint16"},
		{"negative number", "server: {port: -1}", "server.port: the number does not fit"},
		{"fraction", "server: {port: 80.5}", "server.port: the number does not fit"},
		{"duration without unit", "server: {timeout: 5}", "server.timeout: want a duration with its unit"},
		{"no duration", "server: {timeout: soon}", "server.timeout: "},
		{"refused by Validate", "server: {port: 0}", "server.port is 0: want a port"},
		{"oversized", "tags: [" + strings.Repeat("a, ", 4000) + "a]", "it has 12009 bytes: want at most 10000"},
		{"alias bomb", bomb(), "once aliases are expanded"},
		{"alias of itself", "a: &a [*a]", "nested more than 64 deep"},
		{"nested too deep", "a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested more than 64 deep"},
		{"custom tag", "tags: !!binary aGk=\nlimit: !!int x", "line 1, column 7: tags: its tag"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			refused++
			wanted := putRaw(t, c, key, bad.document)
			waittest.Until(t, "it is seen", func() bool { return r.Status().Wanted == wanted })
			s := r.Status()
			if s.Running != good || r.Snapshot().Revision != good || r.Snapshot().Value.Server.Port != 1 {
				t.Errorf("revision %d stopped running: %+v", good, s)
			}
			if f := s.LastFailed; f == nil || f.Revision != wanted || f.Key != key || f.At.IsZero() || !strings.Contains(f.Reason, bad.reason) {
				t.Errorf("want a failure of %s at %d that says %q, got %+v", key, wanted, bad.reason, f)
			}
			if !strings.Contains(s.Error, key) {
				t.Errorf("want an error that names %s, got %q", key, s.Error)
			}
		})
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("the last-known-good file was changed (%v):\n%s", err, after)
	}
	fixed := publish(t, c, "group/web", "server: {port: 2}")
	r.runs(t, fixed)
	waittest.Until(t, "the failure is history", func() bool {
		s := r.Status()
		return s.Running == fixed && s.Wanted == fixed && s.Error == "" && s.LastFailed != nil
	})
	r.stop(t)
	want := fmt.Sprintf(`# HELP perennial_config_applied_total Configurations that came into force, that of the start among them.
# TYPE perennial_config_applied_total counter
perennial_config_applied_total 2
# HELP perennial_config_failures_total Times that a configuration did not come into force, by reason.
# TYPE perennial_config_failures_total counter
perennial_config_failures_total{reason="crashed"} 0
perennial_config_failures_total{reason="hanging"} 0
perennial_config_failures_total{reason="invalid"} %d
perennial_config_failures_total{reason="refused"} 0
# HELP perennial_config_revision Revision in etcd of the configuration in force; 0 = there is no document.
# TYPE perennial_config_revision gauge
perennial_config_revision %d
`, refused, fixed)
	if err := testutil.CollectAndCompare(r.Metrics(), strings.NewReader(want),
		"perennial_config_applied_total", "perennial_config_failures_total", "perennial_config_revision"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(r.Metrics()); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if len(r.changes) != 2 {
		t.Errorf("the subscriber was called %d times: want once for each good configuration", len(r.changes))
	}
}

// bomb expands to 9^9 values.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x]\n")
	for i := range 9 {
		alias := "*a" + string(rune('0'+i))
		b.WriteString("a" + string(rune('1'+i)) + ": &a" + string(rune('1'+i)) + " [" + strings.Repeat(alias+", ", 8) + alias + "]\n")
	}
	return b.String()
}

// TestStartWithoutEtcd: an agent that cannot reach etcd must start on what it
// ran last, or say in one sentence why it cannot.
func TestStartWithoutEtcd(t *testing.T) {
	server := etcdtest.Start(t)
	c := server.Client(t)
	file := goodFile(t)
	revision := publish(t, c, "global", "server: {port: 9}")
	r := newRig(t, c, file)
	r.start(t)
	r.keepsFile(t)
	r.stop(t)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("want mode 0600, got %v, %v", info.Mode(), err)
	}
	killed := time.Now()
	server.Kill()

	t.Run("with the file", func(t *testing.T) {
		r := newImpatientRig(t, server.Client(t), file, 200*time.Millisecond)
		r.start(t)
		if s := r.Snapshot(); s.Origin != config.OriginFile || s.Revision != revision || s.Value.Server.Port != 9 {
			t.Errorf("started on %+v", s)
		}
		if s := r.Status(); s.Origin != "file" || !strings.Contains(s.Error, server.URL()) || s.EtcdSilentSince.IsZero() || !s.EtcdHeard.IsZero() {
			t.Errorf("want a status that says that etcd is away, got %+v", s)
		}
		server.Restart()
		waittest.Until(t, "etcd is followed again", func() bool {
			s := r.Status()
			return s.Origin == "etcd" && s.Error == "" && s.EtcdSilentSince.IsZero() && s.EtcdHeard.After(killed)
		})
		newer := publish(t, server.Client(t), "global", "server: {port: 10}")
		r.runs(t, newer)
		server.Kill()
	})
	for name, prepare := range map[string]func(t *testing.T, r *rig){
		"without a file":       func(t *testing.T, r *rig) { r.src.File = goodFile(t) },
		"with no file set":     func(_ *testing.T, r *rig) { r.src.File = "" },
		"with another's file":  func(_ *testing.T, r *rig) { r.src.AgentID = "a2" },
		"with an old grouping": func(_ *testing.T, r *rig) { r.src.Groups = nil },
		"with a damaged file":  func(t *testing.T, r *rig) { r.src.File = written(t, "{") },
		"with a newer schema":  func(t *testing.T, r *rig) { r.src.File = written(t, `{"schema": 2}`) },
		"with a huge file":     func(t *testing.T, r *rig) { r.src.File = written(t, strings.Repeat(" ", 1<<20)) },
		"with a bad document": func(t *testing.T, r *rig) {
			r.src.File = written(t, `{"schema":1,"keys":["/agents/config/global","/agents/config/group/web","/agents/config/group/eu","/agents/config/agent/a1"],
				"documents":[{"key":"/agents/config/global","revision":3,"data":"e3Byb3Q6IDF9"}]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newImpatientRig(t, server.Client(t), file, 200*time.Millisecond)
			prepare(t, r)
			err := r.fails(t)
			for _, want := range []string{server.URL(), "did not answer within 200ms", "no last-known-good"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("want %q in: %v", want, err)
				}
			}
			if r.src.File != "" && !strings.Contains(err.Error(), r.src.File) {
				t.Errorf("want %s named in: %v", r.src.File, err)
			}
		})
	}
}

func written(t *testing.T, content string) string {
	t.Helper()
	file := goodFile(t)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestStartOnBadDocument: what is bad in etcd must not keep an agent from
// starting that has run before, and must not be taken by one that has not.
func TestStartOnBadDocument(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	file := goodFile(t)
	revision := publish(t, c, "global", "server: {port: 9}")
	r := newRig(t, c, file)
	r.start(t)
	r.keepsFile(t)
	r.stop(t)
	wanted := publish(t, c, "global", "server: {prot: 9}")

	again := newRig(t, c, file)
	again.start(t)
	if s := again.Status(); s.Running != revision || s.Wanted != wanted || s.Origin != "file" || s.LastFailed == nil || s.LastFailed.Revision != wanted {
		t.Errorf("want revision %d from the file and %d reported, got %+v", revision, wanted, s)
	}
	fixed := publish(t, c, "global", "server: {port: 8}")
	again.runs(t, fixed)

	publish(t, c, "global", "server: {prot: 9}")
	err := newRig(t, c, goodFile(t)).fails(t)
	if !strings.Contains(err.Error(), "server.prot") || !strings.Contains(err.Error(), "/agents/config/global") {
		t.Errorf("want field and document named, got %v", err)
	}
}

// TestSuccessorTakesTheFileAndLeavesItAlone: a swap must not wait for etcd,
// and a successor that is rolled back must not have changed what the
// incumbent starts on.
func TestSuccessorTakesTheFileAndLeavesItAlone(t *testing.T) {
	server := etcdtest.Start(t)
	c := server.Client(t)
	file := goodFile(t)
	revision := publish(t, c, "global", "server: {port: 9}")
	incumbent := newRig(t, c, file)
	incumbent.start(t)
	incumbent.keepsFile(t)
	incumbent.stop(t)

	proxy := server.Proxy(t)
	proxy.Freeze()
	successor := newRig(t, proxy.Client(t), file)
	inCharge := make(chan struct{})
	successor.src.PreferFile, successor.src.InCharge = true, inCharge
	successor.start(t)
	if s := successor.Snapshot(); s.Origin != config.OriginFile || s.Revision != revision {
		t.Errorf("want the file's revision %d at once, got %+v", revision, s)
	}
	newer := publish(t, c, "global", "server: {port: 10}")
	proxy.Heal()
	successor.runs(t, newer)
	if kept := revisionInFile(t, file); kept != revision {
		t.Errorf("the file went from revision %d to %d in probation", revision, kept)
	}
	close(inCharge)
	waittest.Until(t, "the file follows", func() bool { return revisionInFile(t, file) == newer })
	newest := publish(t, c, "global", "server: {port: 11}")
	waittest.Until(t, "the file goes on following", func() bool { return revisionInFile(t, file) == newest })
}

func revisionInFile(t *testing.T, file string) int64 {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var content struct{ Revision int64 }
	if err := json.Unmarshal(data, &content); err != nil {
		t.Fatal(err)
	}
	return content.Revision
}

// TestFileThatCannotBeWrittenIsReported: nobody would otherwise know before
// the start that needs it.
func TestFileThatCannotBeWrittenIsReported(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	r := newRig(t, c, "/does/not/exist/config.json")
	r.start(t)
	waittest.Until(t, "reported", func() bool { return strings.Contains(r.Status().Error, "could not be kept") })
}

// TestChangeDuringOutageArrives: configuration must neither be lost in a
// partition nor stay on hold after it.
func TestChangeDuringOutageArrives(t *testing.T) {
	server := etcdtest.Start(t)
	proxy := server.Proxy(t)
	direct := server.Client(t)
	r := newRig(t, proxy.Client(t), "")
	r.start(t)
	proxy.Cut()
	publish(t, direct, "global", "server: {port: 1}")
	revision := publish(t, direct, "agent/a1", "server: {port: 2}")
	if _, err := direct.Compact(t.Context(), revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	proxy.Heal()
	r.runs(t, revision)
	if p := r.Snapshot().Value.Server.Port; p != 2 {
		t.Errorf("want port 2, got %d", p)
	}
}

func TestRunRefusesWhatCannotWork(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	for name, src := range map[string]config.Source{
		"no client":            {AgentID: "a1"},
		"no id":                {Client: c},
		"an id that escapes":   {Client: c, AgentID: "../a1"},
		"a group that escapes": {Client: c, AgentID: "a1", Groups: []string{"a/b"}},
	} {
		store, err := config.New(config.Config[settings]{})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Run(t.Context(), src); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := config.New(config.Config[int]{}); err == nil {
		t.Error("a configuration that is a number: accepted")
	}
}
