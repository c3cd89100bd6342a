package rollout_test

import (
	"testing"
	"time"

	. "github.com/perennial-go/perennial/upgrade/rollout"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWindowFollowsTheCalendarOfItsZone(t *testing.T) {
	night := Window{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "22:00", To: "04:00", Zone: "Europe/Berlin"}
	// On 29 March 2026 the clocks there go from 2:00 to 3:00, on 25 October from
	// 3:00 back to 2:00.
	spring := Window{From: "02:30", To: "03:30", Zone: "Europe/Berlin"}
	for name, c := range map[string]struct {
		w    Window
		at   string
		open bool
		next string
	}{
		"before the evening":                   {night, "2026-01-05T20:59:59Z", false, "2026-01-05T21:00:00Z"},
		"the evening begins":                   {night, "2026-01-05T21:00:00Z", true, "2026-01-06T21:00:00Z"},
		"the morning belongs to the evening":   {night, "2026-01-10T02:59:59Z", true, "2026-01-12T21:00:00Z"}, // Saturday
		"the end is not in it":                 {night, "2026-01-10T03:00:00Z", false, "2026-01-12T21:00:00Z"},
		"Sunday evening":                       {night, "2026-01-11T22:00:00Z", false, "2026-01-12T21:00:00Z"},
		"Monday morning":                       {night, "2026-01-12T01:00:00Z", false, "2026-01-12T21:00:00Z"},
		"summer time":                          {night, "2026-07-06T20:00:00Z", true, "2026-07-07T20:00:00Z"},
		"a time that does not exist is later":  {spring, "2026-03-29T00:59:59Z", false, "2026-03-29T01:30:00Z"},
		"an hour that is there twice is open":  {spring, "2026-10-25T01:31:00Z", true, "2026-10-26T01:30:00Z"},
		"all day":                              {Window{From: "00:00", To: "00:00"}, "2026-01-05T23:59:59Z", true, "2026-01-06T00:00:00Z"},
		"once a week, and it has just been so": {Window{Days: []string{"mon"}, From: "10:00", To: "11:00"}, "2026-01-05T10:00:00Z", true, "2026-01-12T10:00:00Z"},
	} {
		open, err := c.w.Open(at(t, c.at))
		next, err2 := c.w.Next(at(t, c.at))
		if err != nil || err2 != nil || open != c.open || !next.Equal(at(t, c.next)) {
			t.Errorf("%s: open %v, next %v (%v, %v), want %v, %s", name, open, next.UTC(), err, err2, c.open, c.next)
		}
	}
}

func TestPartOfAgentsIsNeverNone(t *testing.T) {
	for _, c := range []struct {
		a       Amount
		n, want int
	}{
		{Amount{BasisPoints: 1}, 10000, 1}, {Amount{BasisPoints: 1}, 0, 1}, {Amount{BasisPoints: 1}, 10001, 2}, {Amount{BasisPoints: 500}, 3, 1},
		{Amount{BasisPoints: 3000}, 100, 30}, {Amount{BasisPoints: 10000}, 7, 7}, {Amount{Agents: 5}, 2, 5}, {Amount{}, 100, 0},
	} {
		if got := c.a.Of(c.n); got != c.want {
			t.Errorf("%v of %d is %d, want %d", c.a, c.n, got, c.want)
		}
	}
}
