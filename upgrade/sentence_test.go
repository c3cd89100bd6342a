package upgrade

import (
	"context"
	"errors"
	"testing"
)

func TestReasonOfSeveralLinesStaysOnOneAndKeepsItsWords(t *testing.T) {
	u := &Upgrader{cfg: Config{Busy: func(context.Context) string { return "counting\r\nthe stock\x1b[2J\n" }}}
	if got := u.busy()(t.Context()); got != "counting; the stock\ufffd[2J" {
		t.Errorf("busy says %q", got)
	}
	j := &journal{path: t.TempDir() + "/" + journalFile}
	if err := j.write(Attempt{Reason: errors.Join(errors.New("one"), errors.New("two")).Error()}); err != nil {
		t.Fatal(err)
	}
	if j.last.Reason != "one; two" {
		t.Errorf("the journal says %q", j.last.Reason)
	}
}

func TestExitCodeIsTheOneOfTheProcessThatServed(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{ErrSuperseded, 0},
		{&ExitError{Code: 137}, 137},
		{errors.Join(&ExitError{Code: 3, Exited: true}), 3},
		{ErrLocked, 1},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("%v: code %d, want %d", c.err, got, c.want)
		}
	}
}
