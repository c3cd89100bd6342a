package config_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// seen is what of a Status the fleet judges an agent by.
type seen struct {
	running, wanted int64
	same, wrong     bool // the digests, and Error
}

// statuses are all that a rig told, without repetitions.
type statuses struct {
	mu   sync.Mutex
	list []seen
}

func (r *rig) told() *statuses {
	all := &statuses{}
	r.src.OnStatus = func() {
		s := r.Status()
		now := seen{s.Running, s.Wanted, s.RunningDigest == s.WantedDigest, s.Error != ""}
		all.mu.Lock()
		defer all.mu.Unlock()
		if n := len(all.list); n == 0 || all.list[n-1] != now {
			all.list = append(all.list, now)
		}
	}
	return all
}

// are waits for the last of want, and compares all.
func (all *statuses) are(t *testing.T, want ...seen) {
	t.Helper()
	var got []seen
	waittest.Nil(t, "all that is to be told", func() error {
		all.mu.Lock()
		got = slices.Clone(all.list)
		all.mu.Unlock()
		if len(got) < len(want) || got[len(got)-1] != want[len(want)-1] {
			return fmt.Errorf("told %+v, want %+v", got, want)
		}
		return nil
	})
	if !slices.Equal(got, want) {
		t.Errorf("told %+v\nwant %+v", got, want)
	}
}

func good(revision int64) seen { return seen{revision, revision, true, false} }

func refused(running, wanted int64) seen { return seen{running, wanted, false, true} }

// TestStatusTellsOfNothingThatNeverWas: a fleet would be shown to refuse good
// documents, or to run what nobody has asked for, while it takes them in.
func TestStatusTellsOfNothingThatNeverWas(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	nobody := etcdtest.Start(t)
	first := publish(t, c, "global", "server: {port: 1}")
	r := newRig(t, c, goodFile(t))
	r.src.Overlay = config.NewOverlay(nil)
	told := r.told()
	r.start(t)
	if s := r.Status(); s.Running != first || s.Wanted != first {
		t.Errorf("once it is ready: %+v", s)
	}
	want := []seen{good(0), good(first)}
	told.are(t, want...)
	next := func(s seen) {
		t.Helper()
		want = append(want, s)
		told.are(t, want...)
	}
	second := publish(t, c, "group/web", "server: {port: 2}")
	next(good(second))
	bad := publish(t, c, "group/web", "server: {prot: 3}")
	next(refused(second, bad))
	mended := publish(t, c, "group/web", "server: {port: 4}")
	next(good(mended))
	const laid = 1 << 40
	lay := func(document string, revision int64) {
		t.Helper()
		if err := r.src.Overlay.Lay("group/web", []byte(document), revision); err != nil {
			t.Fatal(err)
		}
	}
	lay("server: {port: 5}", laid)
	next(good(laid))
	lay("server: {prot: 6}", laid+1)
	next(refused(laid, laid+1))
	r.src.Overlay.Lift("group/web")
	next(good(mended))
	r.stop(t)

	gone := nobody.Client(t)
	nobody.Stop()
	alone := newRig(t, gone, r.src.File)
	alone.src.PreferFile = true
	alone.start(t)
	if s := alone.Status(); s.Running != mended || s.Wanted != mended || s.WantedSince.IsZero() {
		t.Errorf("on what was kept, without etcd: %+v", s)
	}
}

// TestWhatCameIntoForceAsRunEndsIsWantedAndKept: it would be what nobody wanted, and
// a start without etcd would go back behind it.
func TestWhatCameIntoForceAsRunEndsIsWantedAndKept(t *testing.T) {
	etcd := etcdtest.Start(t)
	c := etcd.Client(t)
	r := newRig(t, c, goodFile(t))
	told := r.told()
	_, err := config.Sub(r.Store, "last", func(s *settings) uint16 { return s.Server.Port }, func(_ context.Context, _, port uint16) error {
		if port == 2 {
			r.cancel()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.start(t)
	last := publish(t, c, "global", "server: {port: 2}")
	if err := waittest.Next(t, "Run returns", r.done); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.cancel = nil
	told.are(t, good(0), good(last))

	etcd.Stop()
	next := newRig(t, c, r.src.File)
	next.src.PreferFile = true
	next.start(t)
	next.runs(t, last)
}
