package config

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/waittest"
)

// newRunner is what Run has, without etcd.
func newRunner(t *testing.T, log *waittest.Log) *runner[parts] {
	t.Helper()
	s, err := New(Config[parts]{Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return &runner[parts]{Store: s, keeper: &keeper{}, pause: backoff.Backoff{Min: time.Second, Max: 30 * time.Second}}
}

func global(revision int64, text string) view {
	return view{documents: []document{{Key: "/agents/config/global", Revision: revision, Data: []byte(text)}}}
}

// TestTheSameBadDocumentIsReportedOnce however often it is heard, as after
// each reconnect.
func TestTheSameBadDocumentIsReportedOnce(t *testing.T) {
	log := &waittest.Log{}
	r := newRunner(t, log)
	huge := global(7, strings.Repeat("x", DefaultMaxBytes+1))
	var first time.Time
	for i := range 3 {
		r.heard(huge)
		if err := r.apply(t.Context()); err == nil {
			t.Fatal("accepted")
		}
		f := r.Status().LastFailed
		if i == 0 {
			first = f.At
		}
		if !f.At.Equal(first) || f.Attempts != 1 || f.Reason != "it has 1568769 bytes: want at most 1568768" {
			t.Errorf("last failed %+v", f)
		}
	}
	if n := log.Count("configuration refused"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	r.heard(global(8, "a: 1"))
	if err := r.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.heard(huge) // as after a restored backup
	if err := r.apply(t.Context()); err == nil || log.Count("configuration refused") != 2 {
		t.Errorf("a document that is bad again is not reported again: %v", err)
	}
}

// TestAConfigurationOutlastsASubscriberThatHangs however long: it was not
// tried meanwhile, and nobody was called for it.
func TestAConfigurationOutlastsASubscriberThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRunner(t, &waittest.Log{})
		var told []int
		if _, err := Sub(r.Store, "other", a, func(_ context.Context, _, n int) error {
			told = append(told, n)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		var release time.Time
		if _, err := Sub(r.Store, "slow", a, func(_ context.Context, _, n int) error {
			if n == 1 && release.IsZero() {
				release = time.Now().Add(10 * time.Minute)
				<-time.After(time.Until(release))
				return errors.New("too late")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		r.heard(global(6, "a: 0"))
		if err := r.apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.heard(global(7, "a: 1"))
		_ = r.apply(t.Context())
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(9*time.Minute, func() {
			if f := r.Status().LastFailed; f.Attempts != 1 || f.Subscriber != `subscriber "slow"` {
				t.Errorf("while it hangs: %+v", f)
			}
		})
		time.AfterFunc(11*time.Minute, stop)
		_ = r.follow(ctx)
		if s := r.Snapshot(); s.Value.A != 1 || s.At.Before(release) {
			t.Errorf("runs %+v", s.Value)
		}
		if want := []int{0, 1, 0, 1}; !slices.Equal(told, want) {
			t.Errorf("the other one was told %v, want %v", told, want)
		}
	})
}

// TestARefusedConfigurationIsNotTriedForEver, nor in bursts.
func TestARefusedConfigurationIsNotTriedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRunner(t, &waittest.Log{})
		var calls []time.Duration
		began := time.Now()
		_, err := Sub(r.Store, "all", a, func(_ context.Context, _, n int) error {
			if n == 0 {
				return nil
			}
			calls = append(calls, time.Since(began))
			return errors.New("no")
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.heard(global(7, "a: 1"))
		_ = r.apply(t.Context())
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, stop)
		_ = r.follow(ctx)
		if len(calls) != ApplyAttempts {
			t.Errorf("tried %d times", len(calls))
		}
		for i := 1; i < len(calls); i++ {
			if pause, least := calls[i]-calls[i-1], time.Second/2<<(i-1); pause < least || pause > 2*least {
				t.Errorf("pause %d: %s, want %s to %s", i, pause, least, 2*least)
			}
		}
		if f := r.Status().LastFailed; f.Attempts != ApplyAttempts || f.Subscriber != `subscriber "all"` {
			t.Errorf("last failed %+v", f)
		}
		r.heard(global(7, "a: 1"))
		if _ = r.apply(t.Context()); len(calls) != ApplyAttempts {
			t.Error("the same again is tried again")
		}
		r.heard(global(8, "a: 1"))
		if _ = r.apply(t.Context()); len(calls) != ApplyAttempts+1 || r.Status().LastFailed.Attempts != 1 {
			t.Errorf("published anew it is tried anew: %d calls, %+v", len(calls), r.Status().LastFailed)
		}
	})
}
