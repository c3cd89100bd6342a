package etcdkv_test

import (
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
)

// TestClockThatIsWrongIsFoundOutByARealMember: this host's clock is shifted, the
// member's is not.
func TestClockThatIsWrongIsFoundOutByARealMember(t *testing.T) {
	t.Parallel()
	c, err := etcdkv.NewClock(etcdkv.ClientConfig{Endpoints: []string{etcdtest.Start(t).URL()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, shift := range []time.Duration{0, time.Hour, -time.Hour} {
		c.Shift(shift)
		o, err := c.Compare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if o.Least > shift || o.Most < shift {
			t.Errorf("a clock that is ahead by %v: found ahead by %v to %v", shift, o.Least, o.Most)
		}
		apart := o.Apart()
		if shift == 0 && apart != 0 {
			t.Errorf("one and the same clock is found apart by %v: %s", apart, o.Basis())
		}
		if shift != 0 && (apart > time.Hour || apart < time.Hour-time.Minute) {
			t.Errorf("clocks an hour apart are found apart by %v: %s", apart, o.Basis())
		}
	}
}
