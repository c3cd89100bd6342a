package upgrade

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// TestRollbackFetchesAnOlderReleaseOnlyWhereThePolicyLetsIt: else whoever may ask
// for rollbacks could have any offered release run, however old.
func TestRollbackFetchesAnOlderReleaseOnlyWhereThePolicyLetsIt(t *testing.T) {
	t.Parallel()
	r := prepareRig(t, 100*time.Millisecond, nil)
	r.first(build{Version: "1.2.0"})
	older, bad, newer := r.publish(build{Version: "1.1.0"}), r.publish(build{Version: "1.0.5"}), r.publish(build{Version: "1.3.0"})
	r.yank("1.0.5", "loses records")
	asked := 0
	back := func(asks Request, remote bool) Status {
		t.Helper()
		asked++
		if asks.ID = strconv.Itoa(asked); remote {
			r.insider().post("/request?remote", asks)
		} else {
			r.request(asks)
		}
		return r.ends(asks.ID)
	}
	refused := func(s Status, says string) {
		t.Helper()
		if s.State != Failed || !strings.Contains(s.Reason, says) {
			t.Errorf("%s: %s; want %q", s.State, s.Reason, says)
		}
	}
	refused(back(Request{Action: ActionRollback, Pin: older}, false), "no 1.1.0 is retained on this host")
	r.env.AllowOlder, r.env.RemoteRollback = true, RemoteRollbackNever
	restart(t, r, r.cmd.Path)
	refused(back(Request{Action: ActionRollback, Pin: older}, true), "--remote-rollback never")
	refused(back(Request{Action: ActionUpgrade, Pin: older}, false), "1.1.0 is older")
	refused(back(Request{Action: ActionRollback, Pin: release.Pin{Version: "1.1.0"}}, false), "no 1.1.0 is retained") // a version alone is not fetched
	refused(back(Request{Action: ActionRollback, Pin: bad, AllowWithdrawn: true}, false), "loses records")
	refused(back(Request{Action: ActionRollback, Pin: newer}, false), "is not older and is not retained: upgrade to it")
	r.request(Request{ID: "back", Action: ActionRevert, Leave: release.Pin{Version: "1.2.0"}, Pin: older})
	if s := r.ends("back"); s.State != Committed || !strings.Contains(s.AllowedBy, "which the policy lets be fetched") {
		t.Errorf("%s: %s (allowed by %q)", s.State, s.Reason, s.AllowedBy)
	}
	r.serves("1.1.0")
	r.comesFrom("1.1.0", "1.2.0", "")
}
