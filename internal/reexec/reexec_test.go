package reexec

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) {
	var name string
	if err := Payload(&name); err == nil {
		fmt.Print("I am ", name)
		os.Exit(0)
	} else if !errors.Is(err, ErrNoPayload) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestEachCopyIsAProgramOfItsOwn(t *testing.T) {
	for _, name := range []string{"one", "another"} {
		path := filepath.Join(t.TempDir(), name)
		if err := Copy(path, name); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(path).CombinedOutput()
		if want := "I am " + name; err != nil || string(out) != want {
			t.Errorf("copy %s printed %q, %v; want %q", name, out, err, want)
		}
	}
}

func TestOptionsOfTheRaceDetectorAreKept(t *testing.T) {
	for before, want := range map[string]string{
		"":                     "atexit_sleep_ms=0",
		"halt_on_error=1":      "halt_on_error=1 atexit_sleep_ms=0",
		"atexit_sleep_ms=2000": "atexit_sleep_ms=2000",
	} {
		t.Setenv("GORACE", before)
		if err := ExitAtOnce(); err != nil {
			t.Fatal(err)
		}
		if got := os.Getenv("GORACE"); got != want {
			t.Errorf("%q became %q, want %q", before, got, want)
		}
	}
}
