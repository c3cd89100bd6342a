package agent

import (
	"fmt"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

// Another operator's order that could not be read must not end the command
// that gives the next one.
func TestGoodOrderIsFollowedAfterAnUnreadableOne(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	m.registered()
	put, err := f.etcd.Client(t).Put(f.ctx(), newKeys("").order("a1"), `{"schema":2}`)
	if err != nil {
		t.Fatal(err)
	}
	waittest.Nil(f, "the status tells of the order", func() error {
		if s := m.registered().Status; s.OrderError == "" || s.OrderErrorRevision != put.Header.Revision {
			return fmt.Errorf("%q about revision %d, want one about %d", s.OrderError, s.OrderErrorRevision, put.Header.Revision)
		}
		return nil
	})
	order, err := f.dir.Order(f.ctx(), "a1", upgrade.Request{Action: upgrade.ActionHold, By: "test", Reason: "audit"})
	if err != nil {
		t.Fatal(err)
	}
	end, err := f.dir.Follow(f.ctx(), order, "a1", func(upgrade.Status) {})
	if err != nil || end.Answer == nil || end.Answer.OrderID != order.ID || end.Answer.Error != "" {
		t.Errorf("%+v, %v", end, err)
	}
}
