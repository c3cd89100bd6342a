package etcdkv

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func clockOf(t *testing.T, cfg ClientConfig) *Clock {
	t.Helper()
	c, err := NewClock(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSecondOfTheDateIsNoOffset: a Date stands for a whole second, and the
// answer took time.
func TestSecondOfTheDateIsNoOffset(t *testing.T) {
	date := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	answer := http.Header{"Date": {date.Format(http.TimeFormat)}}
	at := date.Add
	for name, c := range map[string]struct {
		sent, received time.Time
		apart          time.Duration
	}{
		"within the second":           {at(0), at(999 * time.Millisecond), 0},
		"asked before, told late":     {at(-time.Second), at(2 * time.Second), 0},
		"ahead":                       {at(4 * time.Second), at(5 * time.Second), 3 * time.Second},
		"behind":                      {at(-5 * time.Second), at(-4 * time.Second), 4 * time.Second},
		"set back while it was asked": {at(time.Hour), at(0), 0},
	} {
		o, err := offset(c.sent, c.received, answer, "m")
		if err != nil || o.Apart() != c.apart {
			t.Errorf("%s: apart by %v (%v), want %v", name, o.Apart(), err, c.apart)
		}
	}
}

func TestAnswerThatTellsNoTimeIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(http.Header)
		want   string
	}{
		"from a cache":      {func(h http.Header) { h.Set("Age", "3") }, "cache"},
		"no date":           {func(h http.Header) { h["Date"] = nil }, "Date"},
		"a date of nothing": {func(h http.Header) { h.Set("Date", "now") }, `Date "now"`},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.answer(w.Header()) }))
		_, err := clockOf(t, ClientConfig{Endpoints: []string{srv.URL}}).Compare(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
		srv.Close()
	}
	if _, err := clockOf(t, ClientConfig{Endpoints: []string{"unix:///run/etcd"}}).Compare(t.Context()); err == nil {
		t.Error("a Unix socket told the time")
	}
}

// TestSilentMemberDoesNotHoldTheClock: the call ends with its context.
func TestSilentMemberDoesNotHoldTheClock(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := clockOf(t, ClientConfig{Endpoints: []string{l.Addr().String()}}).Compare(ctx); err == nil {
		t.Error("a member that does not answer told the time")
	}
}

func FuzzClockAnswer(f *testing.F) {
	f.Add("Thu, 26 Nov 2026 09:00:00 GMT", "", int64(1), int64(2))
	f.Add("Thu, 26-Nov-26 09:00:00 UTC", "1", int64(-1), int64(1)<<62)
	f.Fuzz(func(t *testing.T, date, age string, sent, received int64) {
		h := http.Header{"Date": {date}}
		if age != "" {
			h.Set("Age", age)
		}
		o, err := offset(time.Unix(0, sent), time.Unix(0, received), h, "m")
		if err == nil && (o.Least > o.Most || o.Apart() < 0) {
			t.Errorf("%+v", o)
		}
	})
}
