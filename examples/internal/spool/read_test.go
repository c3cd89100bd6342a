package spool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFileCutAtAnyByteGivesItsCompleteRecords(t *testing.T) {
	const content = "{\"id\":\"a\"}\n{\"id\":\"bb\"}\n{\"id\":\"ccc\"}\n"
	for size := range len(content) + 1 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x"+Extension), []byte(content[:size]), 0o600); err != nil {
			t.Fatal(err)
		}
		got, sum := records(t, dir)
		if want := strings.Count(content[:size], "\n"); len(got) != want || sum.Records != int64(want) {
			t.Errorf("cut at %d: %d records, want %d", size, sum.Records, want)
		}
		wantTorn := size > 0 && content[size-1] != '\n'
		if (len(sum.Torn) == 1) != wantTorn || len(sum.Damaged) != 0 {
			t.Errorf("cut at %d: torn %v, want one: %v", size, sum.Torn, wantTorn)
		}
		if wantTorn && sum.Torn[0].Offset+sum.Torn[0].Bytes != int64(size) {
			t.Errorf("cut at %d: torn %+v does not end the file", size, sum.Torn[0])
		}
	}
}

func TestDamagedLinesAreListedAndDoNotHideTheRest(t *testing.T) {
	for name, damage := range map[string]string{
		"zeros from a power cut": strings.Repeat("\x00", 512),
		"half an object":         `{"id":"x`,
		"an array":               `[1]`,
		"longer than any record": `{"id":"` + strings.Repeat("y", 3*MaxRecordBytes) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			content := "{\"id\":\"a\"}\n" + damage + "\n{\"id\":\"b\"}\n"
			if err := os.WriteFile(filepath.Join(dir, "x"+Extension), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, sum := records(t, dir)
			if got["a"] != 1 || got["b"] != 1 || len(got) != 2 {
				t.Errorf("found %v, want a and b", got)
			}
			if len(sum.Damaged) != 1 || sum.Damaged[0].Offset != 11 || sum.Damaged[0].Bytes != int64(len(damage)+1) {
				t.Errorf("damaged = %+v, want the line at 11", sum.Damaged)
			}
		})
	}
}

func TestReadOfNothingAndOfForeignFiles(t *testing.T) {
	if sum, err := Read(filepath.Join(t.TempDir(), "none"), nil); err != nil || sum.Files != 0 {
		t.Errorf("Read of no directory = %+v, %v", sum, err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d"+Extension), 0o700); err != nil {
		t.Fatal(err)
	}
	if sum, err := Read(dir, nil); err != nil || sum.Files != 0 {
		t.Errorf("Read = %+v, %v; want no file", sum, err)
	}
}

func TestErrorOfTheCallbackEndsRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	if err := s.Append(batch(t, "{\"id\":\"a\"}\n{\"id\":\"b\"}\n")); err != nil {
		t.Fatal(err)
	}
	stop, calls := errors.New("stop"), 0
	_, err := Read(dir, func([]byte) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("Read = %v after %d calls", err, calls)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("{}\n{"))
	f.Add([]byte("\n\n{\"a\":1}\n\x00\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x"+Extension), content, 0o600); err != nil {
			t.Fatal(err)
		}
		sum, err := Read(dir, func(record []byte) error {
			if reason := fault(record); reason != "" {
				t.Errorf("record %q %s", record, reason)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(content, []byte{'\n'}); sum.Records+int64(len(sum.Damaged)) != int64(lines) {
			t.Errorf("%d records and %d damaged lines of %d", sum.Records, len(sum.Damaged), lines)
		}
	})
}
