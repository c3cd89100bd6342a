//go:build unix

package secretfile_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/internal/secretfile"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestAFIFOIsRefusedAndHoldsNobodyUp: a login that waits for one that writes
// would hold up every call to etcd, past its deadline.
func TestAFIFOIsRefusedAndHoldsNobodyUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := secretfile.Read("password", path, 100)
		read <- err
	}()
	if err := waittest.Next(t, "the refusal of a FIFO", read); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a FIFO gives %v", err)
	}
}
