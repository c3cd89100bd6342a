package config

import (
	"os"
	"testing"
	"time"
)

// TestReadsRecordOfFirstFormat: a later release must read what this one wrote.
func TestReadsRecordOfFirstFormat(t *testing.T) {
	data, err := os.ReadFile("testdata/record-1.json")
	if err != nil {
		t.Fatal(err)
	}
	r, err := decodeRecord(data)
	want := record{Schema: 1, By: "op@host", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Message: "more logs", Restores: 12, Deleted: true}
	if err != nil || r != want {
		t.Errorf("got %+v, %v", r, err)
	}
	d := Document{Revision: 7, Data: []byte("a: 1")}
	if d.note([]byte(`{"schema":2}`)); d.Problem == "" || d.By != "" || d.Data == nil {
		t.Errorf("a newer record: %+v", d)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"schema":1,"by":"op@host","at":"2026-01-02T03:04:05Z","message":"more logs","restores":12,"deleted":true}`))
	f.Add([]byte(`{"schema":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err == nil && r.Schema != recordSchema {
			t.Errorf("schema %d accepted", r.Schema)
		}
	})
}
