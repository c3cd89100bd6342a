package agent

import (
	"slices"
	"testing"

	"github.com/perennial-go/perennial/health"
)

func TestAlertsOfAWithdrawnReleaseAndOfARevokedKeyGoTogether(t *testing.T) {
	got := withRule(withRule(nil, yankedRule()), keyRevokedRule())
	for _, want := range []string{health.ReleaseYanked, health.ReleaseKeyRevoked} {
		if !slices.ContainsFunc(got, func(r health.Rule) bool { return r.Name == want && r.Indicator == want }) {
			t.Errorf("no rule %s in %+v", want, got)
		}
	}
	if _, err := health.New(health.Config{Rules: got}); err != nil {
		t.Error(err)
	}
}
