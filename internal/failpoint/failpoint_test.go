package failpoint_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/waittest"
)

// specVar makes the test binary a process that walks into failpoints.
const specVar = "FAILPOINT_TEST_SPEC"

func TestMain(m *testing.M) {
	spec, child := os.LookupEnv(specVar)
	if !child {
		os.Exit(m.Run())
	}
	if err := failpoint.Arm(spec); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, name := range []string{"first", "second"} {
		fmt.Println("before", name)
		if err := failpoint.Hit(name); err != nil {
			fmt.Println("error:", err)
		}
		fmt.Println("after", name)
	}
}

func child(spec string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), specVar+"="+spec)
	return cmd
}

// TestKillStopsAtThePoint: a crash test would otherwise test an orderly end.
func TestKillStopsAtThePoint(t *testing.T) {
	out, err := child("second=kill").Output()
	if err == nil {
		t.Error("the process ended well")
	}
	if got := strings.Fields(string(out)); strings.Join(got, " ") != "before first after first before second" {
		t.Errorf("it did %q", got)
	}
}

// TestHangSaysSoAndWaits: a test that acts from outside needs to know when.
func TestHangSaysSoAndWaits(t *testing.T) {
	cmd := child("first=hang")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil || line != "failpoint first\n" {
		t.Errorf("it said %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Errorf("it did not wait: %v", err)
	}
	_ = cmd.Wait()
}

// TestPauseWaitsForItsFileToGo: a crash test that kills one of two processes
// would otherwise never see what the other does next.
func TestPauseWaitsForItsFileToGo(t *testing.T) {
	dir := t.TempDir()
	cmd := child("first=pause:" + dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waittest.Nil(t, "the point is reached", func() error { _, err := os.Stat(filepath.Join(dir, "first")); return err })
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "before first\n" {
		t.Errorf("it said %q, %v", line, err)
	}
	if err := os.Remove(filepath.Join(dir, "first")); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); err != nil || !strings.HasPrefix(string(rest), "after first\n") {
		t.Errorf("it went on with %q, %v", rest, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestErrorIsReturnedAndTheRestGoesOn(t *testing.T) {
	out, err := child("first=error").Output()
	if err != nil || !strings.Contains(string(out), "error: failpoint first\nafter first\nbefore second\nafter second\n") {
		t.Errorf("it did %q, %v", out, err)
	}
}

func TestUnarmedDoesNothing(t *testing.T) {
	if err := failpoint.Hit("first"); err != nil {
		t.Error(err)
	}
}

func TestArmRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, spec := range []string{"first", "first=explode", "first=kill,second", "first kill", "first=pause", "first=pause:"} {
		if err := failpoint.Arm(spec); err == nil {
			t.Errorf("%q: accepted", spec)
		}
	}
	if err := failpoint.Hit("first"); err != nil {
		t.Errorf("a refused list armed something: %v", err)
	}
}
