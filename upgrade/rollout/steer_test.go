package rollout

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestHaltedRolloutIsNotPromotedUnasked: a release that crashes would go to
// everybody.
func TestHaltedRolloutIsNotPromotedUnasked(t *testing.T) {
	r := newRig(t)
	r.start(planOf("1.1.0"))
	// As a controller halts it.
	_, err := r.operator.steer(t.Context(), Act{By: "controller c1"}, EventHalted, "it crashes", func(p Plan, _ Act, at time.Time) (Plan, error) {
		return p.enter(Halted, "it crashes", at), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.operator.Promote(t.Context(), PromoteOptions{}); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "it is halted") {
		t.Errorf("it is promoted: %v", err)
	}
	p, err := r.operator.Promote(t.Context(), PromoteOptions{Act: Act{By: "bob", Reason: "known"}, Failed: true})
	if err != nil || p.State != Running || p.Promoted != 2 {
		t.Errorf("asked for, it is not promoted: %s, %d, %v", p.State, p.Promoted, err)
	}
	records := r.history()[0].Records
	if why := records[len(records)-1].Why; why != "a stage that has failed is taken as it is: known" {
		t.Errorf("the history says %q", why)
	}
}

// TestPlanThatCannotBeReadIsReplacedWhenAskedFor: nothing else gets past it.
func TestPlanThatCannotBeReadIsReplacedWhenAskedFor(t *testing.T) {
	r := newRig(t)
	if _, err := r.client.Put(t.Context(), r.operator.keys.plan(), `{"schema":`); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"status": func() error { _, err := r.operator.Status(t.Context()); return err },
		"abort":  func() error { _, err := r.operator.Abort(t.Context(), Act{}); return err },
		"start":  func() error { _, err := r.operator.Start(t.Context(), planOf("1.1.0"), StartOptions{}); return err },
	} {
		if err := do(); !errors.Is(err, ErrPlan) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := r.start(planOf("1.1.0"), StartOptions{Replace: true})
	if now := r.status().Plan; now == nil || now.ID != p.ID {
		t.Errorf("the plan is %+v", now)
	}
	r.history()
}
