package config

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// TestReadsFileOfFirstFormat: a later release must start on what this one
// kept.
func TestReadsFileOfFirstFormat(t *testing.T) {
	kept, err := readFile("testdata/config-1.json", []string{"/agents/config/global", "/agents/config/agent/a1"}, DefaultMaxBytes, 0)
	want := []document{{Key: "/agents/config/global", Revision: 7, Data: []byte("port: 80\n")}}
	if err != nil || !reflect.DeepEqual(kept.Documents, want) {
		t.Errorf("got %+v, %v, want %+v", kept, err, want)
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
			_, _ = store.build(append(kept.files(), kept.Documents...))
		}
	})
}
