package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

func TestKnownWithdrawalsAreReadAndWrittenAsEver(t *testing.T) {
	want := []Withdrawn{
		{Ref{Version: "1.0.0", Binary: strings.Repeat("ef", 32)}, "loses records"},
		{Ref{Version: "1.1.0", Manifest: "sha256:" + strings.Repeat("cd", 32), Binary: strings.Repeat("ab", 32)}, "crashes"},
	}
	state := stateOf(t, map[string]string{withdrawnFile: "withdrawn-1.json"})
	got, err := readWithdrawn(state)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := writeWithdrawn(state, got); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(state, withdrawnFile)); err != nil || !bytes.Equal(data, golden(t, "withdrawn-1.json")) {
		t.Errorf("now written as\n%s (%v)", data, err)
	}
}

func TestRequestThatAllowsAWithdrawnReleaseIsReadAndWrittenAsEver(t *testing.T) {
	state := stateOf(t, map[string]string{askedFile: "request-1-withdrawn.json"})
	r, err := readAsked(state)
	if err != nil || !r.AllowWithdrawn || r.Remote || r.Action != ActionRollback {
		t.Fatalf("%+v, %v", r, err)
	}
	data, err := json.MarshalIndent(asked{askedSchema, *r, time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)}, "", "  ")
	if err != nil || !bytes.Equal(append(data, '\n'), golden(t, "request-1-withdrawn.json")) {
		t.Errorf("now written as\n%s (%v)", data, err)
	}
	r.Action, r.Pin = ActionUpgrade, release.Pin{Version: "1.0.0", Digest: "sha256:" + strings.Repeat("ab", 32)}
	if err := r.Validate(); !errors.Is(err, errNotRollback) {
		t.Errorf("an upgrade that allows a withdrawn release: %v", err)
	}
}

// TestRequestFromOutsideStaysOneInTheNextProcess: an older incumbent does not
// say who has asked, and a document must not.
func TestRequestFromOutsideStaysOneInTheNextProcess(t *testing.T) {
	var forged Request
	if err := json.Unmarshal([]byte(`{"id":"x","action":"rollback","remote":true,"Remote":true}`), &forged); err != nil || forged.Remote {
		t.Errorf("a document says who asks: %+v (%v)", forged, err)
	}
	for name, c := range map[string]struct {
		frame  frame
		remote bool
	}{
		"order in etcd":        {frame{Kind: kindCommit, Next: &Request{ID: "x"}}, true},
		"on the host":          {frame{Kind: kindCommit, Next: &Request{ID: "x"}, NextHere: true}, false},
		"by an older upgrader": {readGoldenCommit(t), true},
	} {
		var wire bytes.Buffer
		if err := writeFrame(&wire, c.frame); err != nil {
			t.Fatal(err)
		}
		f, err := readFrame(&wire)
		if err != nil {
			t.Fatal(err)
		}
		u := &Upgrader{wake: make(chan struct{}, 1)}
		u.queue(f.Next, f.NextHere)
		if r := u.waiting(); r == nil || r.Remote != c.remote {
			t.Errorf("%s: %+v, want remote %v", name, r, c.remote)
		}
	}
}

// readGoldenCommit is the first commit frame of the first protocol.
func readGoldenCommit(t *testing.T) frame {
	t.Helper()
	wire := bytes.NewReader(golden(t, "handover-1-state.bin"))
	for {
		f, err := readFrame(wire)
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind == kindCommit && f.Next != nil {
			return f
		}
	}
}

func TestRuleAboutRollbacksFromOutsideDecidesWhatTheyMayDo(t *testing.T) {
	bad := Ref{Version: "1.1.0", Binary: strings.Repeat("ab", 32)}
	good := Ref{Version: "1.0.0", Binary: strings.Repeat("cd", 32)}
	known := []Withdrawn{{bad, "loses records"}}
	for name, c := range map[string]struct {
		rule                  RemoteRollback
		remote, allow, yanked bool
		want                  error
	}{
		"here":                             {rule: RemoteRollbackNever},
		"here, withdrawn":                  {rule: RemoteRollbackAny, yanked: true, want: release.ErrYanked},
		"here, withdrawn, allowed":         {rule: RemoteRollbackNever, yanked: true, allow: true},
		"offered":                          {rule: RemoteRollbackOffered, remote: true},
		"offered, allowed for nothing":     {rule: RemoteRollbackOffered, remote: true, allow: true},
		"offered, withdrawn":               {rule: RemoteRollbackOffered, remote: true, yanked: true, want: release.ErrYanked},
		"offered, withdrawn, allowed":      {rule: RemoteRollbackOffered, remote: true, yanked: true, allow: true, want: release.ErrYanked},
		"any, withdrawn":                   {rule: RemoteRollbackAny, remote: true, yanked: true, want: release.ErrYanked},
		"any, withdrawn, allowed":          {rule: RemoteRollbackAny, remote: true, yanked: true, allow: true},
		"never":                            {rule: RemoteRollbackNever, remote: true, want: release.ErrPolicy},
		"never, withdrawn, also if asked":  {rule: RemoteRollbackNever, remote: true, yanked: true, allow: true, want: release.ErrPolicy},
		"any, allowed, but not known here": {rule: RemoteRollbackAny, remote: true, allow: true},
	} {
		r := Request{Remote: c.remote, AllowWithdrawn: c.allow, Action: ActionRollback}
		slot := Slot{Ref: good}
		if c.yanked {
			slot.Ref = bad
		}
		err := Config{RemoteRollback: c.rule}.mayRollBack(r)
		if err == nil {
			_, err = backTo{r, slot, known, nil, c.rule}.allowed([]Ref{bad, good})
		}
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), "on the host") && !strings.Contains(err.Error(), "go back to 1.0.0") {
			t.Errorf("%s: %v says not what to do", name, err)
		}
	}
	if _, err := (Config{StateDir: "x", Name: "demo", Version: "1.0.0", RemoteRollback: "sometimes"}).complete(); err == nil || !strings.Contains(err.Error(), "want offered, any or never") {
		t.Errorf("a rule that nobody knows: %v", err)
	}
}
