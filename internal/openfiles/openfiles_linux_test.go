package openfiles

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// pipe opens two descriptors until the test ends.
func pipe(t *testing.T) error {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	t.Cleanup(func() {
		_ = r.Close()
		_ = w.Close()
	})
	return nil
}

func TestEveryDescriptorCounts(t *testing.T) {
	if err := pipe(t); err != nil { // the first one makes the runtime open some of its own
		t.Fatal(err)
	}
	for name, count := range map[string]func() (int, error){
		"this process":  func() (int, error) { return Count("self") },
		"by its number": func() (int, error) { return Count(strconv.Itoa(os.Getpid())) },
		"by their list": func() (int, error) { return list("/proc/self/fd") },
	} {
		before, err := count()
		if err != nil || before < 5 {
			t.Fatalf("%s: %d, %v", name, before, err)
		}
		for range 10 {
			if err := pipe(t); err != nil {
				t.Fatal(err)
			}
		}
		after, err := count()
		if err != nil || after != before+20 {
			t.Errorf("%s: %d descriptors and %v after 20 more than %d were opened", name, after, err, before)
		}
		if limit, err := Limit(); err != nil || limit < uint64(after) {
			t.Errorf("the limit is %d, %v, with %d open", limit, err, after)
		}
	}
}

// TestNoDescriptorLeftIsToldAsSuch: that is the answer to how many are open.
func TestNoDescriptorLeftIsToldAsSuch(t *testing.T) {
	open, err := list("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	low := l
	low.Cur = uint64(open) + 10
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			t.Error(err)
		}
	})
	var fds []int
	for {
		fd, err := unix.Dup(2)
		if err != nil {
			break
		}
		fds = append(fds, fd)
	}
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	if n, err := list("/proc/self/fd"); !errors.Is(err, unix.EMFILE) {
		t.Errorf("%d, %v with %d descriptors of %d: want EMFILE", n, err, open+len(fds), low.Cur)
	}
}
