package spool

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// writer appends from several goroutines for ever and prints each id once it
// is acknowledged. Lines are long, so that a kill is likely to tear one.
func writer() int {
	s, err := New(Config{Dir: os.Getenv("SPOOL_WRITER"), MaxFileBytes: 4 << 20})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	pad := strings.Repeat("x", 200_000)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d", w, i)
				b, err := Parse(fmt.Appendf(nil, `{"id":%q,"pad":%q}`, id, pad))
				if err == nil {
					err = s.Append(b)
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				fmt.Println(id)
			}
		})
	}
	wg.Wait()
	return 1
}

func TestKilledWriterLosesNoAcknowledgedRecord(t *testing.T) {
	for round := range 5 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SPOOL_WRITER="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acked := map[string]bool{}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			acked[lines.Text()] = true
			if len(acked) == 40+round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the writer ended by itself")
		}
		got, sum := records(t, dir)
		for id := range acked {
			if got[id] != 1 {
				t.Errorf("round %d: record %s was acknowledged and is there %d times", round, id, got[id])
			}
		}
		if len(sum.Damaged) != 0 {
			t.Errorf("round %d: damaged lines: %v", round, sum.Damaged)
		}
	}
}
