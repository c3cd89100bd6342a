package release

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/internal/waittest"
)

// The environment of a host's process; set by looking only.
const (
	envHostRepository = "UPGRADE_TEST_HOST_REPOSITORY"
	envHostState      = "UPGRADE_TEST_HOST_STATE"
	envHostRoots      = "UPGRADE_TEST_HOST_ROOTS"
)

// TestHostProcess is no test but the main function of the processes of one host
// that the tests below start: each looks at the index once.
func TestHostProcess(t *testing.T) {
	reexec.Begin(t)
	f := newFixture(t)
	f.dir, f.state = os.Getenv(envHostRepository), os.Getenv(envHostState)
	c := f.client()
	if os.Getenv(envHostRoots) != "" {
		c = (&rooted{fixture: f}).host()
	}
	if _, err := c.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// looker is a process of the host that looks at the index.
type looker struct {
	*exec.Cmd
	output bytes.Buffer
	done   chan error
	pauses string
}

// looking starts one that waits at a failpoint; empty is none.
func (f *fixture) looking(point string, rooted bool) *looker {
	f.tb.Helper()
	dir, failpoints := f.tb.TempDir(), ""
	if point != "" {
		failpoints = point + "=pause:" + dir
	}
	l := &looker{
		Cmd:  reexec.Test(f.tb, "TestHostProcess", failpoints, envHostRepository+"="+f.dir, envHostState+"="+f.state),
		done: make(chan error, 1), pauses: filepath.Join(dir, point),
	}
	if rooted {
		l.Env = append(l.Env, envHostRoots+"=yes")
	}
	l.Stdout, l.Stderr = &l.output, &l.output
	if err := l.Start(); err != nil {
		f.tb.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { l.done <- l.Wait(); close(ended) }()
	f.tb.Cleanup(func() {
		_ = l.Process.Kill()
		<-ended
	})
	if point != "" {
		waittest.Until(f.tb, "it has come to "+point, func() bool { _, err := os.Stat(l.pauses); return err == nil })
	}
	return l
}

// goOn ends the pause.
func (l *looker) goOn(tb testing.TB) {
	tb.Helper()
	if err := os.Remove(l.pauses); err != nil {
		tb.Fatal(err)
	}
}

// ends waits for the process, which is to say something, "" for a good end.
func (l *looker) ends(tb testing.TB, says string) {
	tb.Helper()
	err := <-l.done
	if (err == nil) != (says == "") || !strings.Contains(l.output.String(), says) {
		tb.Errorf("it ended with %v and\n%s\nwant %q", err, l.output.String(), says)
	}
}

// queues waits until the process waits for the lock, or has gone past it.
func (l *looker) queues(tb testing.TB, lock string) {
	tb.Helper()
	waittest.Nil(tb, "the second process waits for the lock", func() error {
		fds := fmt.Sprintf("/proc/%d/fd", l.Process.Pid)
		entries, err := os.ReadDir(fds)
		if err != nil || len(entries) == 0 {
			return nil //nolint:nilerr // it has ended
		}
		for _, e := range entries {
			if to, err := os.Readlink(filepath.Join(fds, e.Name())); err == nil && to == lock {
				return nil
			}
		}
		return errors.New("the lock is not open")
	})
}

func (f *fixture) remembered(sequence int64) trustState {
	f.tb.Helper()
	s, err := readTrustState(f.state)
	if err != nil || s.Sequence != sequence {
		f.tb.Errorf("trust.json tells sequence %d (%v), want %d", s.Sequence, err, sequence)
	}
	return s
}

// TestProcessThatLooksLateTakesNoMarkBack: incumbent and successor overlap, and
// one that was held up must not write what it had decided on long ago.
func TestProcessThatLooksLateTakesNoMarkBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish("1.0.0")
	late := f.looking("trust.decided", false)
	f.publish("1.1.0")
	f.looking("", false).ends(t, "")
	f.remembered(2)
	late.goOn(t)
	late.ends(t, ErrReplay.Error())
	f.remembered(2)
}

func TestProcessThatWritesIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish("1.0.0")
	first := f.looking("trust.write", false)
	f.publish("1.1.0")
	second := f.looking("", false)
	second.queues(t, f.state+".lock")
	first.goOn(t)
	first.ends(t, "")
	second.ends(t, "")
	f.remembered(2)
}

// TestProcessThatLooksLateTakesNoRevocationBack: the keyring that another
// process has accepted meanwhile counts for the index that waits to be saved.
func TestProcessThatLooksLateTakesNoRevocationBack(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	r.mustTake("1.0.0") // keyring 1 is known, so that the next pause is about the index
	r.mustPublish(1, "1.1.0")
	late := r.looking("trust.decided", true)
	r.add(2)
	r.revoke(1)
	r.roll(root1, root2)
	r.mustPublish(2, "1.2.0", 1)
	r.looking("", true).ends(t, "")
	late.goOn(t)
	late.ends(t, "") // it looks again by the keyring in force
	s := r.remembered(3)
	if len(s.Revoked) != 1 || s.Keyring == nil || s.Keyring.Sequence != 2 {
		t.Errorf("revoked are %q, the keyring is %+v", s.Revoked, s.Keyring)
	}
}

func TestIndexByAKeyThatAnotherProcessHasHeardToBeRevokedIsNotRemembered(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	r.mustTake("1.0.0")
	r.mustPublish(1, "1.1.0")
	late := r.looking("trust.decided", true)
	r.add(2)
	r.revoke(1)
	r.roll(root1, root2)
	r.looking("", true).ends(t, ErrRevoked.Error())
	late.goOn(t)
	late.ends(t, ErrRevoked.Error())
	r.remembered(1)
}
