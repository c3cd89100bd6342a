package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// endorsed is a requirement that holds of every release but the one that a
// file of the state directory names.
type endorsed struct{ stateDir string }

func (e endorsed) String() string { return "endorsed by a file" }

func (e endorsed) Check(_ context.Context, m *release.Manifest, pin release.Pin) error {
	but, err := os.ReadFile(filepath.Join(e.stateDir, "unendorsed"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if string(but) == m.Version && pin.Version == m.Version {
		return fmt.Errorf("%w: nobody endorses %s", release.ErrUntrusted, pin)
	}
	return err
}

// quiet is a requirement about the host: there is no file "loud" in its state
// directory.
type quiet struct{ stateDir string }

func (quiet) String() string { return "quiet" }

func (quiet) Local() {}

func (q quiet) Check(context.Context, *release.Manifest, release.Pin) error {
	if _, err := os.Stat(filepath.Join(q.stateDir, "loud")); err == nil {
		return errors.New("it is loud here")
	}
	return nil
}

func TestReleaseThatARequirementRefusesIsNotDownloaded(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.upgraded("1.1.0")
	pin := r.publish(build{Version: "1.2.0"})
	r.write("unendorsed", "1.2.0")
	// Were it asked for after the download, that would fail for want of the
	// blobs.
	blobs := filepath.Join(r.env.Repository, "blobs")
	if err := os.Rename(blobs, blobs+".away"); err != nil {
		t.Fatal(err)
	}
	r.request(Request{ID: "up", Pin: pin, Force: true})
	if s := r.ends("up"); s.State != Failed || !strings.Contains(s.Reason, "nobody endorses 1.2.0@sha256:") {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	if err := os.Rename(blobs+".away", blobs); err != nil {
		t.Fatal(err)
	}
	r.removes("unendorsed")
	r.request(Request{ID: "again", Pin: pin})
	if s := r.ends("again"); s.State != Committed {
		t.Errorf("once it is endorsed: %s: %s", s.State, s.Reason)
	}
	// A release that was taken is gone back to without asking.
	r.write("unendorsed", "1.1.0")
	r.request(Request{ID: "back", Action: ActionRollback})
	if s := r.ends("back"); s.State != Committed || s.Running.Version != "1.1.0" {
		t.Errorf("rollback: %s: %s", s.State, s.Reason)
	}
}
