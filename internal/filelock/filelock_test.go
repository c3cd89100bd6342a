package filelock

import (
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestTwoHoldersOfOneFileAreToldApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, second := open(t, path), open(t, path)
	if err := Lock(first); err != nil {
		t.Fatal(err)
	}
	for name, lock := range map[string]func(*os.File) error{"Lock": Lock, "LockShared": LockShared} {
		if err := lock(second); !Held(err) {
			t.Errorf("%s of a locked file: %v, want an error that Held knows", name, err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := LockShared(second); err != nil {
		t.Errorf("after the holder has gone: %v", err)
	}
	if err := LockShared(open(t, path)); err != nil {
		t.Errorf("shared beside shared: %v", err)
	}
}
