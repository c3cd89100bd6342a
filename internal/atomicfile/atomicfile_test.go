package atomicfile_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// dirVar makes the test binary a process that writes until it is killed.
const dirVar = "ATOMICFILE_TEST_DIR"

func TestMain(m *testing.M) {
	dir, child := os.LookupEnv(dirVar)
	if !child {
		os.Exit(m.Run())
	}
	for i := 0; ; i++ {
		err := errors.Join(
			atomicfile.Write(filepath.Join(dir, "file"), content(i), 0o640),
			atomicfile.Symlink(fmt.Sprint(i), filepath.Join(dir, "link")))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

// content is large enough for a write of it to be cut in the middle.
func content(i int) []byte {
	return bytes.Repeat([]byte{byte('a' + i%26)}, 1<<18)
}

// TestKilledWriterLeavesOldOrNew: state that is half written would keep an
// agent from starting.
func TestKilledWriterLeavesOldOrNew(t *testing.T) {
	dir := t.TempDir()
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), dirVar+"="+dir)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		for range 3 + round {
			if !lines.Scan() {
				t.Fatalf("the writer ended: %v", cmd.Wait())
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()

		data, err := os.ReadFile(filepath.Join(dir, "file"))
		if err != nil {
			t.Fatal(err)
		}
		if len(data) != 1<<18 || len(bytes.Trim(data, string(data[:1]))) != 0 {
			t.Errorf("round %d: a mixture, or cut short: %d bytes", round, len(data))
		}
		if _, err := os.Readlink(filepath.Join(dir, "link")); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := atomicfile.RemoveTemp(dir); err != nil {
			t.Error(err)
		}
		wantOnly(t, dir, "file", "link")
	}
}

// TestReaderNeverSeesNothing: readers open the file at any moment.
func TestReaderNeverSeesNothing(t *testing.T) {
	for name, replace := range map[string]func(string, []byte, fs.FileMode) error{"Write": atomicfile.Write, "Replace": atomicfile.Replace} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if err := replace(path, content(0), 0o600); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				var err error
				for i := range 50 {
					err = errors.Join(err, replace(path, content(i), 0o600))
				}
				done <- err
			}()
			for {
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
					wantOnly(t, dir, "file")
					return
				default:
				}
				data, err := os.ReadFile(path)
				if err != nil || len(data) != 1<<18 || data[0] != data[len(data)-1] {
					t.Fatalf("read %d bytes, %v", len(data), err)
				}
			}
		})
	}
}

func TestWriteSetsPermissionsWhateverTheUmaskAndTheOldFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no permission bits")
	}
	path := filepath.Join(t.TempDir(), "file")
	for _, perm := range []fs.FileMode{0o666, 0o600} {
		if err := atomicfile.Write(path, nil, perm); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != perm {
			t.Errorf("want mode %v, got %v, %v", perm, info.Mode(), err)
		}
	}
}

// TestFailureLeavesWhatWasThere: an error that also destroyed the old content
// or filled the directory with leftovers would be worse than the error.
func TestFailureLeavesWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(taken, []byte("x"), 0o600); err == nil {
		t.Error("a file replaced a directory")
	}
	if err := atomicfile.Symlink("target", taken); err == nil {
		t.Error("a link replaced a directory")
	}
	if err := atomicfile.Write(filepath.Join(dir, "none", "file"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	if err := atomicfile.Rename(filepath.Join(dir, "none"), taken); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	wantOnly(t, dir, "taken")
}

func TestSymlinkReplacesALinkAndRenameMoves(t *testing.T) {
	dir := t.TempDir()
	link, moved := filepath.Join(dir, "link"), filepath.Join(dir, "moved")
	for _, target := range []string{"one", "two"} {
		if err := atomicfile.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(link); err != nil || got != target {
			t.Errorf("want %s, got %s, %v", target, got, err)
		}
	}
	if err := atomicfile.Rename(link, moved); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, dir, "moved")
}

func wantOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("in the directory: %q, want %q", got, want)
	}
}

// TestLeftoversMayBeRemovedByTwoAtOnce: what one process has deleted is no
// reason for the other to fail.
func TestLeftoversMayBeRemovedByTwoAtOnce(t *testing.T) {
	dir := t.TempDir()
	for range 100 {
		for i := range 20 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(atomicfile.TempPrefix, i)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		other := make(chan error, 1)
		go func() { other <- atomicfile.RemoveTemp(dir) }()
		if err := errors.Join(atomicfile.RemoveTemp(dir), <-other); err != nil {
			t.Fatal(err)
		}
		wantOnly(t, dir)
	}
}
