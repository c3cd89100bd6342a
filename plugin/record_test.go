package plugin

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func goldenFile(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func goldenRecord() *record {
	return &record{
		Schema: 1, Name: "logtail", Version: "1.0.0",
		Digest:    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		Image:     "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
		Manifest:  "schema: 1\nname: logtail\nversion: 1.0.0\nsha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\nprotocol: [1]\ncapabilities: [collect]\n",
		Signature: "untrusted comment: signature\n", Protocol: 1,
		PID: 4711, Started: "0e6bdc4a-1c6f-4d0b-9a0e-3f0f1a2b3c4d/123456",
		Room: "/var/lib/agent/plugins/room/logtail-1234567890", Dir: "/tmp/plugin-987654321",
		Socket: "/tmp/plugin-987654321/plugin-dir123/plugin456", Charge: "64769 1311",
		Generation: 3, Restarts: 2, Exceptions: 5,
	}
}

// Another release of the host reads what this one has left.
func TestFormatsOfWhatOutlivesTheHostStay(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the paths are none there, and no plugin outlives its host")
	}
	data := goldenFile(t, "record-1.json")
	got, err := parseRecord(data)
	if err != nil || !reflect.DeepEqual(got, goldenRecord()) {
		t.Errorf("the record reads as %+v, %v", got, err)
	}
	r := records{dir: t.TempDir()}
	if err := r.write(goldenRecord()); err != nil {
		t.Fatal(err)
	}
	if written, err := os.ReadFile(r.path("logtail")); err != nil || !bytes.Equal(written, data) {
		t.Errorf("written: %v\n%s", err, written)
	}
	newer := strings.Replace(string(data), `"schema": 1,`, `"schema": 1, "later": {"x": [1]},`, 1)
	if got, err := parseRecord([]byte(newer)); err != nil || !reflect.DeepEqual(got, goldenRecord()) {
		t.Errorf("with a field of later: %+v, %v", got, err)
	}

	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, tenantFile), goldenFile(t, "tenant-1.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := &tenant{Schema: 1, Host: 4700, Since: "0e6bdc4a-1c6f-4d0b-9a0e-3f0f1a2b3c4d/123400", Charge: "64769 1311", Dir: "/tmp/plugin-987654321"}
	if got, err := readTenant(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the tenant reads as %+v, %v", got, err)
	}
	if text, err := json.Marshal(want); err != nil || string(text)+"\n" != string(goldenFile(t, "tenant-1.json")) {
		t.Errorf("written: %s, %v", text, err)
	}
}

func FuzzParseRecord(f *testing.F) {
	data := goldenFile(f, "record-1.json")
	f.Add(data)
	f.Add(bytes.Replace(data, []byte("4711"), []byte("1"), 1))
	f.Add(bytes.Replace(data, []byte("/var/lib"), []byte("../lib"), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err != nil {
			return
		}
		if r.Schema != 1 || !ValidName(r.Name) || r.PID <= 1 || !filepath.IsAbs(r.Room) || !filepath.IsAbs(r.home()) || !filepath.IsAbs(r.Socket) {
			t.Errorf("accepted: %+v", r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseRecord(again); err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%+v reads back as %+v, %v", r, back, err)
		}
	})
}
