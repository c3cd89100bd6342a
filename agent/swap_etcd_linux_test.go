package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestSwapDuringWhichEtcdIsWipedEndsWithTheSuccessorRegistered: neither of the
// two knows the lease any more, and each could leave it to the other.
func TestSwapDuringWhichEtcdIsWipedEndsWithTheSuccessorRegistered(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"probation", "committing", "commit-sent"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			p := pauseAt(f.member("a1"), build{Version: "1.1.0"}, step)
			f.etcd.Wipe()
			waittest.Until(t, "both know that the lease is gone", func() bool {
				return strings.Count(p.said(), "etcd lease lost: asking for another") >= 2
			})
			p.goOn()
			p.runs("1.1.0")
			<-p.done
			if p.err != nil {
				t.Errorf("the superseded process ended with %v, want 0", p.err)
			}
			p.runs("1.1.0")
		})
	}
}

// TestTTLThatIsChangedDuringASwapNeverTakesTheAgentOutOfTheRegistry: the
// incumbent revokes the lease that its successor was handed.
func TestTTLThatIsChangedDuringASwapNeverTakesTheAgentOutOfTheRegistry(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"launched", "probation", "commit-sent"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			client := f.etcd.Client(t)
			p := pauseAt(f.member("a1"), build{Version: "1.1.0"}, step)
			key := newKeys("").registry("a1")
			_, old, created := f.found(client, key)
			for _, ttl := range []int{20, 10, 20, 30} {
				doc := fmt.Sprintf("perennial: {heartbeat: {ttl: %ds, every: 1s}}\n", ttl)
				if _, err := config.Put(f.ctx(), client, "", "global", []byte(doc)); err != nil {
					t.Fatal(err)
				}
			}
			if step != "commit-sent" { // where the incumbent exchanges nothing more
				waittest.Until(t, "the incumbent exchanges the lease", func() bool { _, now, _ := f.found(client, key); return now != old })
			}
			p.goOn()
			p.runs("1.1.0")
			waittest.Nil(t, "the successor has the TTL", func() error {
				e := p.registered()
				if r := e.Status.Presence; r.TTL != 30 || e.HeartbeatEvery != 1 || r.HeartbeatEvery != 1 {
					return fmt.Errorf("%+v, %v", r, e.HeartbeatEvery)
				}
				return nil
			})
			<-p.done
			if p.err != nil {
				t.Errorf("the superseded process ended with %v, want 0", p.err)
			}
			if _, _, now := f.found(client, key); now != created {
				t.Errorf("the registration of revision %d was created anew at %d", created, now)
			}
		})
	}
}
