package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestReadsFileOfFirstFormat: a later release must start on what this one
// kept.
func TestReadsFileOfFirstFormat(t *testing.T) {
	kept, err := readFile("testdata/config-1.json", []string{"/agents/config/global", "/agents/config/agent/a1"}, DefaultMaxBytes, 0)
	want := []document{{Key: "/agents/config/global", Revision: 7, Data: []byte("port: 80\n")}}
	if err != nil || !same(kept.Documents, want) {
		t.Errorf("got %+v, %v, want %+v", kept, err, want)
	}
}

// TestReadsWhatWasKeptOfLocalFiles, which is what a start with bad ones is on.
func TestReadsWhatWasKeptOfLocalFiles(t *testing.T) {
	kept, err := readFile("testdata/config-1-files.json", []string{"/agents/config/global", "/agents/config/agent/a1"}, DefaultMaxBytes, 1)
	want := []document{{Key: "/etc/agentd/local.yaml", Data: []byte("port: 81\n"), local: true}}
	if err != nil || !same(kept.files(), want) || !kept.Files[0].local {
		t.Errorf("got %+v, %v, want %+v", kept, err, want)
	}
}

// TestReadsWhichEtcdTheDocumentsAreFrom: forgetting that it lost them, an
// agent that is started again would fall to its defaults.
func TestReadsWhichEtcdTheDocumentsAreFrom(t *testing.T) {
	kept, err := readFile("testdata/config-1-store.json", []string{"/agents/config/global"}, DefaultMaxBytes, 0)
	if want := (store{Cluster: 14841639068965178418, Revision: 9, Lost: true}); err != nil || kept.fromEtcd().store != want {
		t.Errorf("got %+v, %v, want %+v", kept.Store, err, want)
	}
}

// TestReadsTrialOfFirstFormat: the crashes that the release before counted
// must count.
func TestReadsTrialOfFirstFormat(t *testing.T) {
	golden, err := os.ReadFile("testdata/config-1.json.trial")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{path: filepath.Join(t.TempDir(), "config.json")}
	golden = bytes.ReplaceAll(golden, []byte("/var/lib/agentd/slots/1.0.0-000000000000/agent"), []byte(self))
	if err := os.WriteFile(k.trialPath(), golden, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := k.crashes(digestOf(nil)); n != 2 {
		t.Errorf("%d crashes, want 2", n)
	}
	if n := k.crashes(digestOf([]document{{Key: "other"}})); n != 0 {
		t.Errorf("%d crashes of another configuration", n)
	}
}

// TestStatusIsReadAsItIsWritten: dashboards and older releases read it. The
// members of the first release are still what they were.
func TestStatusIsReadAsItIsWritten(t *testing.T) {
	golden, err := os.ReadFile("testdata/status-1.json")
	if err != nil {
		t.Fatal(err)
	}
	var s Status
	if err := json.Unmarshal(golden, &s); err != nil {
		t.Fatal(err)
	}
	again, err := json.MarshalIndent(s, "", "  ")
	if err != nil || string(again)+"\n" != string(golden) {
		t.Errorf("written as\n%s, %v\nread from\n%s", again, err, golden)
	}
	var old struct {
		Running, Wanted int64
		LastFailed      struct {
			Revision    int64
			Key, Reason string
		} `json:"last_failed"`
		Origin, Error string
	}
	if err := json.Unmarshal(golden, &old); err != nil || old.Running != 7 || old.Wanted != 9 || old.LastFailed.Revision != 9 || old.Origin != "etcd" || old.Error == "" {
		t.Errorf("a reader of the first release gets %+v, %v", old, err)
	}
}

func FuzzReadFile(f *testing.F) {
	golden, err := os.ReadFile("testdata/config-1.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(`{"schema":1,"keys":[],"documents":[{}],"files":[{"key":"/a","data":"YQ=="}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		store, err := New(Config[everything]{})
		if err != nil {
			t.Fatal(err)
		}
		if kept, err := readFile(path, nil, 1024, 0); err == nil {
			_, _ = store.build(append(kept.files(), kept.Documents...), nil)
		}
	})
}
