//go:build unix

package release

import (
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
