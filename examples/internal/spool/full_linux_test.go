package spool

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/examples/internal/hosttest"
)

// TestFullDiskAcknowledgesNothingAndRecovers runs itself again in a mount
// namespace of its own, where it can mount a file system of 256 KiB.
func TestFullDiskAcknowledgesNothingAndRecovers(t *testing.T) {
	hosttest.Mounting(t, fillDisk)
}

func fillDisk(t *testing.T, dir string) {
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=256k"); err != nil {
		hosttest.CannotMount(t, err)
	}
	s := open(t, Config{Dir: dir})
	record := func(id int) Batch {
		return batch(t, fmt.Sprintf(`{"id":"%d","pad":%q}`, id, strings.Repeat("x", 10_000)))
	}
	acked := 0
	var err error
	for err == nil {
		if err = s.Append(record(acked)); err == nil {
			acked++
		}
	}
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free space") {
		t.Fatalf("Append on a full disk = %v", err)
	}
	if acked < 10 {
		t.Fatalf("only %d records fitted", acked)
	}
	got, sum := records(t, dir)
	if len(got) != acked || len(sum.Torn)+len(sum.Damaged) != 0 {
		t.Errorf("after the failure: %d records of %d acknowledged, flaws %v %v", len(got), acked, sum.Torn, sum.Damaged)
	}
	if err := s.Check(); err == nil {
		t.Error("Check finds nothing wrong with a full disk")
	}
	// What the failed append had written must have been given back.
	if err := s.Append(batch(t, `{"id":"small"}`)); err != nil {
		t.Errorf("a record that fits was refused after a full disk: %v", err)
	}
	if err := s.Check(); err != nil {
		t.Errorf("Check = %v after a record was stored", err)
	}
	if got, _ := records(t, dir); got["small"] != 1 || len(got) != acked+1 {
		t.Errorf("found %d records, want %d and small", len(got), acked)
	}
	deletedFileGivesItsRoomBack(t, s, record)
}

// deletedFileGivesItsRoomBack fills the disk again and deletes the file that
// fills it: without an append, which a spool that is out of service does not
// get, Check has to notice.
func deletedFileGivesItsRoomBack(t *testing.T, s *Spool, record func(int) Batch) {
	t.Helper()
	for i := 0; s.Append(record(i)) == nil; i++ {
	}
	if err := s.Check(); err == nil {
		t.Error("Check finds nothing wrong with a disk that is full again")
	}
	if err := os.Remove(s.file.path); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Errorf("Check = %v after the file that filled the disk was deleted", err)
	}
	if err := s.Append(batch(t, `{"id":"later"}`)); err != nil {
		t.Error(err)
	}
}
