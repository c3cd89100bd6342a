//go:build unix

package release

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestFIFOInTheRepositoryDoesNotBlock(t *testing.T) {
	f := newFixture(t)
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(f.path(indexPath), 0o644); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := f.client().Index(t.Context())
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a FIFO was taken for an index")
		}
	case <-time.After(10 * time.Second):
		t.Error("opening a FIFO blocks")
	}
}

// The look before the opening cannot see what takes the file's place after it.
func TestFIFOThatTakesTheFilesPlaceDoesNotBlock(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if err := syscall.Mkfifo(root.Name()+"/pipe", 0o644); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, _, err := openAtOnce(root, "pipe")
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, errNotPlain) {
			t.Errorf("error %v, want that it is not a regular file", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("opening a FIFO blocks")
	}
}
